//! `node.json`: who lives in a data directory.

use std::fs::File;
use std::io;

use ropeway_core::code::Code;
use ropeway_core::id::NodeName;
use ropeway_core::policy::Role;
use serde::{Deserialize, Serialize};

use super::{Access, DataDir, file, write_atomic};
use crate::error::{Error, IoContext, Result};
use crate::identity::DeploymentId;

/// Version of `node.json` that this program writes.
const VERSION: u32 = 1;
const LIMIT_BYTES: usize = 16 * 1024;

/// Who lives in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeFile {
    /// The node's name.
    pub name: NodeName,
    /// What it was made as. What peers believe is in its certificate.
    pub role: Role,
    /// The deployment it belongs to; a clinic learns it from its certificate.
    pub deployment: Option<DeploymentId>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    name: String,
    role: String,
    deployment: Option<String>,
}

impl NodeFile {
    pub(super) fn read(dir: &DataDir) -> Result<Self> {
        let path = dir.node_json();
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(Error::at(Code::NotInitialised, dir.root(), "there is no node.json"));
            }
            Err(e) => return Err(e).at("reading", &path),
        };
        Self::parse(&file::read_open(&file, &path, LIMIT_BYTES)?).map_err(|e| e.in_file(&path))
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// [`Code::FormatNewer`] if a newer program wrote it, else [`Code::Config`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::new(Code::Config, what);
        // The version first: a newer file may have other fields.
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| bad("not JSON").with_source(e))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            Some(v) if v > u64::from(VERSION) => {
                return Err(Error::new(Code::FormatNewer, format!("version {v}")));
            }
            _ => return Err(bad("no version that this program knows")),
        }
        let json: Json = serde_json::from_value(value).map_err(|e| bad("a field").with_source(e))?;
        Ok(Self {
            name: NodeName::new(&json.name).map_err(|_| bad("`name` is not a node name"))?,
            role: role_from_str(&json.role).ok_or_else(|| bad("`role` is neither clinic nor hub"))?,
            deployment: match json.deployment {
                None => None,
                Some(d) => Some(d.parse().map_err(|_| bad("`deployment` is not 16 hexadecimal digits"))?),
            },
        })
    }

    /// As it stands in the file.
    pub(crate) fn to_file(self) -> Result<Vec<u8>> {
        let json = Json {
            version: VERSION,
            name: self.name.to_string(),
            role: role_str(self.role).to_owned(),
            deployment: self.deployment.map(|d| d.to_string()),
        };
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|e| Error::new(Code::Config, "cannot be written").with_source(e))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(crate) fn write(&self, dir: &DataDir) -> Result<()> {
        let path = dir.node_json();
        let bytes = self.to_file().map_err(|e| e.in_file(&path))?;
        write_atomic(&path, &bytes, Access::Public)
    }
}

/// The word for a role in files.
pub(crate) fn role_str(role: Role) -> &'static str {
    match role {
        Role::Clinic => "clinic",
        Role::Hub => "hub",
    }
}

fn role_from_str(s: &str) -> Option<Role> {
    [Role::Clinic, Role::Hub].into_iter().find(|r| role_str(*r) == s)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn it_reads_what_it_wrote_and_says_what_is_wrong_otherwise() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        assert_eq!(dir.node().unwrap_err().code, Code::NotInitialised);
        assert_eq!(DataDir::new("/nonexistent/x").node().unwrap_err().code, Code::NotInitialised);
        for deployment in [None, Some("0123456789abcdef".parse().unwrap())] {
            let node = NodeFile { name: NodeName::new("clinic_a").unwrap(), role: Role::Clinic, deployment };
            node.write(&dir).unwrap();
            assert_eq!(dir.node().unwrap(), node);
        }
        let node = NodeFile { name: NodeName::new("clinic_a").unwrap(), role: Role::Clinic, deployment: None };
        node.write(&dir).unwrap();
        let (ours, theirs) = (DeploymentId([1; 8]), DeploymentId([2; 8]));
        assert_eq!(dir.record_deployment(ours).unwrap().deployment, Some(ours));
        assert_eq!(dir.record_deployment(theirs).unwrap_err().code, Code::Deployment);
        assert_eq!(dir.record_deployment(ours).unwrap(), dir.node().unwrap());
        let cases = [
            ("", Code::Config),
            ("{}", Code::Config),
            (r#"{"version":1,"name":"../x","role":"hub","deployment":null}"#, Code::Config),
            (r#"{"version":1,"name":"x","role":"king","deployment":null}"#, Code::Config),
            (r#"{"version":1,"name":"x","role":"hub","deployment":"12"}"#, Code::Config),
            (r#"{"version":2,"nom":"x"}"#, Code::FormatNewer),
        ];
        for (text, code) in cases {
            fs::write(dir.node_json(), text).unwrap();
            assert_eq!(dir.node().unwrap_err().code, code, "{text}");
        }
    }
}
