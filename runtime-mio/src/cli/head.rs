//! Heads: which event a stream ends with, in one word that can be kept on paper.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_std::snapshot::parse_head;
use ropeway_std::{Error, IoContext};

use super::Result;

/// Longest file of heads that is read.
const FILE_MAX_BYTES: u64 = 256 << 20;

/// A head: `NODE/INCARNATION/LANE:SEQ:HASH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) key: StreamKey,
    pub(super) seq: u64,
    pub(super) hash: [u8; 32],
}

impl Head {
    /// `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        parse_head(text).map(|(key, seq, chain)| Self { key, seq, hash: chain.0 })
    }
}

/// The heads that an argument names: itself, or all that stand in a file, whatever is around them: a
/// list, the output of `audit`, a snapshot's manifest.
///
/// # Errors
/// [`Code::BadArgument`] if there is none; [`Code::Io`].
pub(super) fn read(argument: &str) -> Result<Vec<Head>> {
    if let Some(head) = Head::parse(argument) {
        return Ok(vec![head]);
    }
    let path = Path::new(argument);
    if !path.exists() {
        let what = format!("{argument}: neither STREAM:SEQ:HASH nor a file; `ropeway audit --heads` prints heads");
        return Err(Error::new(Code::BadArgument, what).into());
    }
    let mut text = String::new();
    File::open(path).and_then(|f| f.take(FILE_MAX_BYTES).read_to_string(&mut text)).at("reading", path)?;
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | ','));
    let heads: Vec<Head> = words.filter_map(Head::parse).collect();
    if heads.is_empty() {
        return Err(Error::at(Code::BadArgument, path, "there is no head in it: STREAM:SEQ:HASH").into());
    }
    Ok(heads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_from_the_argument_and_from_any_file_that_shows_it() {
        let hash = "0123456789abcdef".repeat(4);
        let text = format!("clinic_a/00000000000000ff/urgent:12:{hash}");
        let head = Head::parse(&text).unwrap();
        assert_eq!((head.key.to_string().as_str(), head.seq), ("clinic_a/00000000000000ff/urgent", 12));
        assert_eq!(read(&text).unwrap(), [head]);
        for bad in [
            "",
            "a:b:c",
            &format!("clinic_a/ff/urgent:12:{hash}"),
            &text[..text.len() - 1],
            &text.replace("12", "0"),
            &text.replace("urgent", "x"),
            &text.replace("00000000000000ff", "0000000000000000"),
        ] {
            assert_eq!(Head::parse(bad), None, "{bad}");
        }
        let tmp = tempfile::tempdir().unwrap();
        let path = tmp.path().join("heads");
        for file in
            [format!("{text}\n\n{text}\n"), format!("head  {text}\nx y {text}"), format!("[\"{text}\",\"{text}\"]")]
        {
            std::fs::write(&path, file).unwrap();
            assert_eq!(read(path.to_str().unwrap()).unwrap(), [head, head]);
        }
        std::fs::write(&path, "nothing").unwrap();
        assert_eq!(read(path.to_str().unwrap()).unwrap_err().code(), Some(Code::BadArgument));
        assert_eq!(read("/nonexistent").unwrap_err().code(), Some(Code::BadArgument));
    }
}
