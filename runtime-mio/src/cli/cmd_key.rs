//! `ropeway key list`.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_std::keyring::{Keyring, Source};
use ropeway_std::store::{DirFiles, KeyUse, key_use};
use serde::Serialize;

use super::args::{KeyArgs, KeyCommand, KeyListArgs};
use super::{Outcome, Output, Result, passphrase, time};

/// Where the key-encryption key comes from, for programs.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum SourceRow {
    /// A key file; a relative path begins at the data directory.
    File {
        /// Its path.
        path: String,
    },
    /// A passphrase.
    Passphrase {
        /// Of Argon2id.
        memory_kib: u32,
        /// Of Argon2id.
        passes: u32,
    },
    /// A credential of the service manager.
    Credential,
}

impl From<&Source> for SourceRow {
    fn from(source: &Source) -> Self {
        match source {
            Source::File(path) => Self::File { path: path.display().to_string() },
            Source::Passphrase(p) => Self::Passphrase { memory_kib: p.memory_kib, passes: p.passes },
            Source::Credential => Self::Credential,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    /// 0: there is no keyring file yet.
    generation: u64,
    source: SourceRow,
    kek_made_s: Option<u64>,
    /// A rekey was interrupted.
    unfinished: bool,
    current: u32,
    keys: Vec<KeyRow>,
    missing: Vec<MissingRow>,
}

#[derive(Serialize)]
struct KeyRow {
    id: u32,
    made_s: Option<u64>,
    current: bool,
    /// Segments with something under it.
    segments: Vec<u64>,
}

#[derive(Serialize)]
struct MissingRow {
    id: u32,
    segments: Vec<u64>,
}

/// Shows what opens the log and which segments need it. Works beside a process that writes.
///
/// # Errors
/// Those of [`ropeway_std::DataDir::keyring`].
pub fn run(args: &KeyArgs, out: &mut Output) -> Result<Outcome> {
    let KeyCommand::List(args) = &args.command;
    list(args, out)
}

fn list(args: &KeyListArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    dir.node()?;
    let ring = dir.keyring()?;
    let used = key_use(&mut DirFiles::new(&dir), &ring.data_keys())?;
    let listed = listed(&ring, &used);
    let path = dir.keyring_file();
    match listed.generation {
        0 => out.line(format_args!("keyring    none yet; `ropeway rekey` makes one"))?,
        n => out.line(format_args!("keyring    {}, generation {n}", path.display()))?,
    }
    out.line(format_args!("opened by  {}, since {}", ring.source(), time::minute(ring.kek_made_s())))?;
    out.line("")?;
    out.line("  key  made                  segments")?;
    for k in &listed.keys {
        let current = if k.current { "  (current)" } else { "" };
        let segments = ranges(&k.segments);
        out.line(format_args!("{:>5}  {:20}  {segments}{current}", k.id, time::minute(k.made_s.unwrap_or(0))))?;
    }
    for m in &listed.missing {
        let (code, segments) = (Code::KeyMissing, ranges(&m.segments));
        out.line(format_args!("{code}: data key {}; these segments cannot be read: {segments}", m.id))?;
    }
    if listed.unfinished {
        out.note("a rekey was interrupted; run it again, so that the old key opens nothing any more");
    }
    out.object(&listed)?;
    Ok(if listed.missing.is_empty() { Outcome::Done } else { Outcome::Damage })
}

fn listed(ring: &Keyring, used: &BTreeMap<u32, KeyUse>) -> Listed {
    let known = |s: u64| (s > 0).then_some(s);
    let row = |k: &ropeway_std::keyring::KeyEntry| KeyRow {
        id: k.id,
        made_s: known(k.made_s),
        current: k.id == ring.current(),
        segments: used.get(&k.id).map(|u| u.segments.clone()).unwrap_or_default(),
    };
    let is_known = |id: u32| ring.entries().iter().any(|k| k.id == id);
    let missing = used.iter().filter(|(id, _)| !is_known(**id));
    Listed {
        generation: ring.generation(),
        source: ring.source().into(),
        kek_made_s: known(ring.kek_made_s()),
        unfinished: ring.is_unfinished(),
        current: ring.current(),
        keys: ring.entries().iter().map(row).collect(),
        missing: missing.map(|(id, u)| MissingRow { id: *id, segments: u.segments.clone() }).collect(),
    }
}

/// `1 to 3, 5`; `none`.
fn ranges(numbers: &[u64]) -> String {
    let mut parts: Vec<(u64, u64)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let part = |(from, to): &(u64, u64)| if from == to { from.to_string() } else { format!("{from} to {to}") };
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.iter().map(part).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_a_row_are_one_range() {
        assert_eq!(ranges(&[]), "none");
        assert_eq!(ranges(&[4]), "4");
        assert_eq!(ranges(&[1, 2, 3, 5, 7, 8]), "1 to 3, 5, 7 to 8");
    }
}
