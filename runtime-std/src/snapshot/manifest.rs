//! The list of what a snapshot holds.

use std::path::{Component, Path, PathBuf};

use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
use ropeway_core::log::SEGMENT_MAX_BYTES;
use serde::{Deserialize, Serialize};

use crate::dir::{hex, read_bounded};
use crate::error::{Error, Result};

/// Version of the manifest that this program writes.
pub const FORMAT: u32 = 1;
/// Name of the file.
pub const MANIFEST: &str = "manifest.json";
/// As long as this file is there, the snapshot is not complete.
pub const INCOMPLETE: &str = "INCOMPLETE";
const LIMIT_BYTES: usize = 256 << 20;
/// Longest file that a snapshot holds, in bytes.
const FILE_MAX_BYTES: u64 = 64 << 30;

/// What a snapshot holds: `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file.
    pub format: u32,
    /// Version of the program that took the snapshot.
    pub program: String,
    /// Whose log it is.
    pub node: String,
    /// `clinic` or `hub`.
    pub role: String,
    /// The deployment, if the node knew it.
    pub deployment: Option<String>,
    /// The incarnation in which the node wrote. Nothing that is restored writes in it.
    pub incarnation: Option<String>,
    /// When it was taken, in milliseconds since 1970, by the machine's clock.
    pub taken_ms: u64,
    /// Whether the key of the log is in it.
    pub with_key: bool,
    /// Events.
    pub events: u64,
    /// The last event of each stream, as [`head`] writes it.
    pub heads: Vec<String>,
    /// Damage that the log had already, one sentence each.
    pub damages: Vec<String>,
    /// The files.
    pub files: Vec<FileEntry>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// `log/NAME` or `keys/NAME`.
    pub path: String,
    /// Bytes in the snapshot.
    pub bytes: u64,
    /// Bytes in the data directory: zeros fill it up.
    pub full_bytes: u64,
    /// BLAKE3 of the bytes in the snapshot, 64 hexadecimal digits.
    pub blake3: String,
}

impl Manifest {
    /// Reads and checks the manifest of a snapshot, not its files.
    ///
    /// # Errors
    /// [`Code::BadSnapshot`] if there is none, if the snapshot is incomplete or if the manifest names
    /// files that no snapshot has; [`Code::FormatNewer`]; [`Code::Io`].
    pub fn read(snapshot: &Path) -> Result<Self> {
        let bad = |what: &str| Error::at(Code::BadSnapshot, snapshot, what);
        if crate::dir::exists(&snapshot.join(INCOMPLETE))? {
            return Err(bad("taking it was interrupted: it is not complete"));
        }
        let path = snapshot.join(MANIFEST);
        if !crate::dir::exists(&path)? {
            return Err(bad("there is no manifest.json in it"));
        }
        Self::parse(&read_bounded(&path, LIMIT_BYTES)?).map_err(|e| e.in_file(&path))
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// As [`Manifest::read`].
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::new(Code::BadSnapshot, what);
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| bad("not JSON").with_source(e))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(v) if v == u64::from(FORMAT) => {}
            Some(v) if v > u64::from(FORMAT) => return Err(Error::new(Code::FormatNewer, format!("format {v}"))),
            _ => return Err(bad("no format that this program knows")),
        }
        let m: Self = serde_json::from_value(value).map_err(|e| bad("a field").with_source(e))?;
        NodeName::new(&m.node).map_err(|_| bad("`node` is not a node name"))?;
        for f in &m.files {
            f.place().ok_or_else(|| bad("it names a file outside of log/ and keys/"))?;
            let most = if f.is_hot() { SEGMENT_MAX_BYTES } else { FILE_MAX_BYTES };
            if f.bytes > f.full_bytes || f.full_bytes > most || !f.is_hot() && f.bytes != f.full_bytes {
                return Err(bad("it names a file of a size that it cannot have"));
            }
        }
        Ok(m)
    }

    /// Bytes of all files in the snapshot.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

impl FileEntry {
    /// Folder and name; `None` if the path leads anywhere else than a snapshot's files lie.
    #[must_use]
    pub fn place(&self) -> Option<(&str, &str)> {
        let (folder, name) = self.path.split_once('/')?;
        let plain = Path::new(name).components().map(|c| matches!(c, Component::Normal(_))).eq([true]);
        let clean = !name.contains('/') && !name.ends_with(".tmp");
        (plain && clean && ["log", "keys"].contains(&folder)).then_some((folder, name))
    }

    /// Where it lies in a snapshot or a data directory.
    #[must_use]
    pub fn under(&self, root: &Path) -> PathBuf {
        root.join(&self.path)
    }

    fn is_hot(&self) -> bool {
        self.place()
            .is_some_and(|(folder, name)| folder == "log" && name.parse::<ropeway_core::log::SegmentName>().is_ok())
    }
}

/// A head as it is printed: `NODE/INCARNATION/LANE:SEQ:HASH`, the hash with 64 hexadecimal digits.
#[must_use]
pub fn head(key: &StreamKey, seq: u64, chain: &Chain) -> String {
    format!("{key}:{seq}:{}", hex(&chain.0))
}

/// Reads a stream's key as it is shown: `NODE/INCARNATION/LANE`; `None` if it is none.
pub(crate) fn parse_stream(text: &str) -> Option<StreamKey> {
    let (rest, lane) = text.rsplit_once('/')?;
    let (node, incarnation) = rest.rsplit_once('/')?;
    let number = u64::from_str_radix(incarnation, 16).ok().filter(|n| *n != 0 && incarnation.len() == 16)?;
    Some(StreamKey {
        node: NodeName::new(node).ok()?,
        incarnation: Incarnation::new(number),
        lane: lane.parse::<Lane>().ok()?,
    })
}

/// Reads what [`head`] writes; `None` if it is none.
#[must_use]
pub fn parse_head(text: &str) -> Option<(StreamKey, u64, Chain)> {
    let (rest, hash) = text.rsplit_once(':')?;
    let (stream, seq) = rest.rsplit_once(':')?;
    let key = parse_stream(stream)?;
    let mut bytes = [0; 32];
    if hash.len() != 64 || !hash.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hash.get(2 * i..2 * i + 2)?, 16).ok()?;
    }
    Some((key, seq.parse().ok().filter(|n| *n > 0)?, Chain(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(path: &str, bytes: u64, full_bytes: u64) -> Vec<u8> {
        let file = FileEntry { path: path.into(), bytes, full_bytes, blake3: "00".into() };
        let m = Manifest {
            format: 1,
            program: "0".into(),
            node: "hub".into(),
            role: "hub".into(),
            deployment: None,
            incarnation: None,
            taken_ms: 1,
            with_key: false,
            events: 0,
            heads: vec![],
            damages: vec![],
            files: vec![file],
        };
        serde_json::to_vec(&m).unwrap()
    }

    #[test]
    fn a_manifest_leads_nowhere_else_and_to_no_file_that_lies_about_its_size() {
        let code = |m: &[u8]| Manifest::parse(m).map(|_| ()).map_err(|e| e.code);
        for good in ["log/seg-00000001.log", "keys/log.key"] {
            assert_eq!(code(&manifest(good, 64, 64)), Ok(()), "{good}");
        }
        for path in ["../x", "log/../x", "/etc/passwd", "log/a/b", "tls/node.key", "log", "log/", "log/.", "log/x.tmp"]
        {
            assert_eq!(code(&manifest(path, 64, 64)), Err(Code::BadSnapshot), "{path}");
        }
        assert_eq!(code(&manifest("log/seg-00000001.log", 64, u64::MAX)), Err(Code::BadSnapshot));
        assert_eq!(code(&manifest("log/seg-00000001.log", 65, 64)), Err(Code::BadSnapshot));
        assert_eq!(code(&manifest("keys/log.key", 4, 64)), Err(Code::BadSnapshot));
        assert_eq!(code(b"{\"format\":2}"), Err(Code::FormatNewer));
        assert_eq!(code(b"{}"), Err(Code::BadSnapshot));
    }
}
