//! The rule that says what may be removed from a log: `retain.json`.

use ropeway_core::code::Code;
use serde::{Deserialize, Serialize};

use crate::dir::{Access, DataDir, exists, read_bounded, sync_dir, write_atomic};
use crate::error::{Error, IoContext, Result};

/// Version of the file that this program writes.
const VERSION: u32 = 1;
const LIMIT_BYTES: usize = 4096;

/// What may be removed from the log of a node. Without `age_ms` and `bytes` nothing may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// Segments whose events are all older may go.
    pub age_ms: Option<u64>,
    /// While the log is larger, the oldest segments may go.
    pub bytes: Option<u64>,
    /// So many of the newest events of each stream stay, however old.
    pub keep_at_least: u64,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    #[serde(flatten)]
    rule: Rule,
}

impl Rule {
    /// The rule of a node, `None` if it has none: then nothing is ever removed.
    ///
    /// # Errors
    /// [`Code::Config`] if the file cannot be understood, [`Code::FormatNewer`] if a newer program wrote
    /// it, [`Code::Io`]. Nothing is to be removed then.
    pub fn read(dir: &DataDir) -> Result<Option<Self>> {
        let path = dir.retain_json();
        if !exists(&path)? {
            return Ok(None);
        }
        Self::parse(&read_bounded(&path, LIMIT_BYTES)?).map(Some).map_err(|e| e.in_file(&path))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        super::versioned::<Json>(bytes, VERSION).and_then(|json| json.rule.checked())
    }

    /// The same, if it makes sense.
    ///
    /// # Errors
    /// [`Code::Config`] if it names neither an age nor a size.
    pub fn checked(self) -> Result<Self> {
        match self {
            Self { age_ms: None, bytes: None, .. } => {
                Err(Error::new(Code::Config, "a rule needs an age or a size: without both it removes nothing"))
            }
            rule => Ok(rule),
        }
    }

    /// Makes it the node's rule, at once. A process that works on the node follows it within minutes.
    ///
    /// # Errors
    /// As [`Rule::checked`]; [`Code::Io`] and its kin.
    pub fn write(self, dir: &DataDir) -> Result<()> {
        let json = Json { version: VERSION, rule: self.checked()? };
        let path = dir.retain_json();
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
        bytes.push(b'\n');
        write_atomic(&path, &bytes, Access::Public)
    }

    /// Takes the node's rule away; false if there was none.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin.
    pub fn remove(dir: &DataDir) -> Result<bool> {
        let path = dir.retain_json();
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
            other => other.at("removing", &path).and_then(|()| sync_dir(dir.root())).map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_was_written_and_one_that_makes_no_sense_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        assert_eq!(Rule::read(&dir).unwrap(), None);
        assert!(!Rule::remove(&dir).unwrap());
        for rule in [
            Rule { age_ms: Some(90 * 86_400_000), bytes: None, keep_at_least: 0 },
            Rule { age_ms: Some(1), bytes: Some(u64::MAX), keep_at_least: u64::MAX },
        ] {
            rule.write(&dir).unwrap();
            assert_eq!(Rule::read(&dir).unwrap(), Some(rule));
        }
        let none = Rule { keep_at_least: 5, ..Rule::default() };
        assert_eq!(none.write(&dir).unwrap_err().code, Code::Config);
        assert!(Rule::remove(&dir).unwrap());
        assert_eq!(Rule::read(&dir).unwrap(), None);
        for (text, code) in [
            ("", Code::Config),
            ("{}", Code::Config),
            (r#"{"version":1,"keep_at_least":3}"#, Code::Config),
            (r#"{"version":1,"age_ms":-3,"keep_at_least":3}"#, Code::Config),
            (r#"{"version":2,"age":"90d"}"#, Code::FormatNewer),
        ] {
            std::fs::write(dir.retain_json(), text).unwrap();
            assert_eq!(Rule::read(&dir).unwrap_err().code, code, "{text}");
        }
    }
}
