//! Checking a log by its checksums: no key is needed, nothing is decrypted, nothing is written.

use std::path::PathBuf;

use ropeway_core::code::Code;
use ropeway_core::log::{CrcScan, End, SegmentName, Sight};

use crate::dir::DataDir;
use crate::error::{Error, IoContext, Result};
use crate::store::{Damage, DirFiles, Files, ReadAhead, place_before};

/// How often a segment is read again that seems damaged and is perhaps being written to.
const RESCANS_MAX: usize = 16;

/// What the checksums say of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quick {
    /// Segments that were read.
    pub segments: u64,
    /// Bytes of their files.
    pub log_bytes: u64,
    /// Frames with a right checksum.
    pub frames: u64,
    /// Numbers of the data keys that it was written under, ascending.
    pub key_ids: Vec<u32>,
    /// What is not as it should be. [`Code::Tampered`] is never among it: that takes the key.
    pub damages: Vec<Damage>,
    /// Files in `log/` that were not looked at, because they are no hot segments.
    pub unread: Vec<PathBuf>,
}

/// Reads every frame of the hot segments of `dir` and compares its checksum. Needs no key and no
/// `node.json`. `progress` hears of bytes done and in all.
///
/// # Errors
/// [`Code::NotInitialised`] if there is no `log` folder; [`Code::FormatNewer`]; [`Code::Io`].
pub fn quick_verify(dir: &DataDir, mut progress: impl FnMut(u64, u64)) -> Result<Quick> {
    let mut quick = Quick { unread: others(dir)?, ..Quick::default() };
    let (mut files, mut ahead) = (DirFiles::new(dir), ReadAhead::default());
    // Sealed segments are not read, but they are no holes.
    let hot = files.list()?;
    let mut numbers = files.list_sealed()?;
    numbers.extend(&hot);
    numbers.sort_unstable();
    numbers.dedup();
    let mut total = 0;
    for n in &hot {
        total += files.len(*n)?;
    }
    let mut expected = 1;
    for (i, &number) in numbers.iter().enumerate() {
        let missing = std::mem::replace(&mut expected, number + 1)..number;
        let lost = |segment| Damage { code: Code::SegmentMissing, segment, from_page: 0, to_page: 0, sealed: false };
        quick.damages.extend(missing.map(lost));
        if !hot.contains(&number) {
            continue;
        }
        let newest = i + 2 >= numbers.len();
        let next = numbers.get(i + 1).copied();
        let mut seen = scan(&mut files, &mut ahead, number, next)?;
        for _ in 0..if newest { RESCANS_MAX } else { 0 } {
            if !seen.damages.iter().any(Damage::is_loss) {
                break;
            }
            let again = scan(&mut files, &mut ahead, number, next)?;
            let same = again.damages == seen.damages;
            seen = again;
            if same {
                break;
            }
        }
        quick.damages.append(&mut seen.damages);
        quick.key_ids.append(&mut seen.key_ids);
        quick.segments += 1;
        quick.frames += seen.frames;
        quick.log_bytes += seen.len;
        progress(quick.log_bytes, total);
    }
    quick.key_ids.sort_unstable();
    quick.key_ids.dedup();
    Ok(quick)
}

struct Segment {
    len: u64,
    frames: u64,
    key_ids: Vec<u32>,
    damages: Vec<Damage>,
}

/// Reads one segment. `next`: the number of the one behind it.
fn scan(files: &mut DirFiles, ahead: &mut ReadAhead, number: u64, next: Option<u64>) -> Result<Segment> {
    let len = ahead.open(files, number)?;
    let mut scan = CrcScan::new(number, len)?;
    let (mut frames, mut key_ids, mut damages) = (0, Vec::new(), Vec::new());
    loop {
        let sight = match scan.poll_want() {
            None => scan.feed(&[]),
            Some(want) => match ahead.read(files, want.offset, want.len) {
                Ok(bytes) => scan.feed(bytes),
                Err(e) => {
                    log::warn!("{e}");
                    scan.unreadable()
                }
            },
        };
        match sight {
            Sight::NeedMore => {}
            Sight::Epoch { page, key_id, repaired } => {
                if !key_ids.contains(&key_id) {
                    key_ids.push(key_id);
                }
                if repaired {
                    let (from_page, to_page) = (page, page + 1);
                    damages.push(Damage { code: Code::Rotten, segment: number, from_page, to_page, sealed: false });
                }
            }
            Sight::Frame { .. } => frames += 1,
            Sight::Damaged { from_page, to_page } => {
                damages.push(Damage { code: Code::Corrupt, segment: number, from_page, to_page, sealed: false });
            }
            Sight::End(end) => {
                damages.extend(damaged_end(files, number, next, &end));
                return Ok(Segment { len, frames, key_ids, damages });
            }
            Sight::Fault(code) => {
                return Err(Error::at(code, &files.describe(number), "nothing was changed"));
            }
        }
    }
}

/// What the end of a segment means (docs/LOG.md#recovery-3), as far as it can be told: whether an
/// acknowledgement speaks of lost events stands in the frames.
fn damaged_end(files: &mut DirFiles, number: u64, next: Option<u64>, end: &End) -> Option<Damage> {
    let code = end.verdict(place_before(files, number, next, end.link), false).code()?;
    Some(Damage { code, segment: number, from_page: end.from_page, to_page: end.to_page, sealed: false })
}

/// What lies in `log/` and is neither a hot segment nor on its way to become one.
fn others(dir: &DataDir) -> Result<Vec<PathBuf>> {
    let log = dir.log();
    let entries = match std::fs::read_dir(&log) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::at(Code::NotInitialised, dir.root(), "there is no log in it"));
        }
        other => other.at("listing", &log)?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.at("listing", &log)?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        if name.parse::<SegmentName>().is_err() && !crate::dir::is_temporary(name) {
            all.push(path);
        }
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen::init_node;
    use crate::replica::{Options, Replica};
    use ropeway_core::id::{Lane, NodeName};
    use std::os::unix::fs::FileExt;

    #[test]
    fn without_the_key_a_rotten_page_is_found_and_a_whole_log_is_clean() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("a"));
        assert_eq!(quick_verify(&dir, |_, _| ()).unwrap_err().code, Code::NotInitialised);
        init_node(&dir, NodeName::new("clinic_a").unwrap()).unwrap();
        let mut replica = Replica::open(dir.clone(), Options::default()).unwrap();
        for i in 0..9 {
            replica.append(Lane::Normal, 0, &[i; 5_000]).unwrap();
            replica.commit().unwrap();
        }
        drop(replica);
        std::fs::remove_file(dir.log_key()).unwrap();
        std::fs::remove_file(dir.node_json()).unwrap();
        let quick = quick_verify(&dir, |_, _| ()).unwrap();
        assert_eq!((quick.segments, quick.frames, quick.key_ids.len(), quick.damages.len()), (1, 9, 1, 0));

        let file = std::fs::OpenOptions::new().write(true).open(dir.log().join("seg-00000001.log")).unwrap();
        file.write_all_at(b"rot", 5 * 4096 + 77).unwrap();
        std::fs::write(dir.log().join("seg-00000009.other"), b"").unwrap();
        let quick = quick_verify(&dir, |_, _| ()).unwrap();
        assert_eq!((quick.frames, quick.unread.len()), (8, 1));
        let [damage] = &quick.damages[..] else { panic!("{:?}", quick.damages) };
        assert_eq!((damage.code, damage.from_page, damage.to_page), (Code::Corrupt, 5, 7));
    }
}
