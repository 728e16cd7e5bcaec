//! Checking a log by its checksums: no key is needed, nothing is decrypted, nothing is written.

use std::path::PathBuf;

use ropeway_core::code::Code;
use ropeway_core::log::{SealedName, SegmentName};

use crate::dir::DataDir;
use crate::error::{Error, IoContext, Result};
use crate::scrub::Glance;
use crate::store::{Damage, DirFiles, Files, SideFile, is_stub, judge_end, judge_next, list_all};

/// How often a segment is read again that seems damaged and is perhaps being written to.
const RESCANS_MAX: usize = 16;
/// Read between two looks at the progress.
const STEP_BYTES: usize = 1 << 20;

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
    /// Files in `log/` that were not looked at, because they are no segments.
    pub unread: Vec<PathBuf>,
}

/// Reads every frame of the segments of `dir`, hot and sealed, and compares its checksum. Needs no key and no
/// `node.json`. `progress` hears of bytes done and in all.
///
/// # Errors
/// [`Code::NotInitialised`] if there is no `log` folder; [`Code::FormatNewer`]; [`Code::Io`].
pub fn quick_verify(dir: &DataDir, mut progress: impl FnMut(u64, u64)) -> Result<Quick> {
    let mut quick = Quick { unread: others(dir)?, ..Quick::default() };
    let mut files = DirFiles::new(dir);
    let (hot, mut numbers) = list_all(&mut files)?;
    // What stands before a stub is gone. Whether that can be read takes the key.
    let stub = files.list_sealed()?.into_iter().rev().find(|n| is_stub(&mut files, *n)).unwrap_or(0);
    numbers.retain(|n| *n > stub);
    let mut total = 0;
    for n in &numbers {
        let sealed = files.side_len(SideFile::Sealed(*n))?.unwrap_or(0);
        total += files.len(*n).unwrap_or(sealed);
    }
    let mut expected = stub + 1;
    for (i, &number) in numbers.iter().enumerate() {
        let missing = std::mem::replace(&mut expected, number + 1)..number;
        let lost = |segment| Damage { code: Code::SegmentMissing, segment, from_page: 0, to_page: 0, sealed: false };
        quick.damages.extend(missing.map(lost));
        let newest = i + 2 >= numbers.len();
        let next = numbers.get(i + 1).copied();
        let sealed = !hot.contains(&number);
        let mut seen = scan(&mut files, number, sealed, next)?;
        for _ in 0..if newest { RESCANS_MAX } else { 0 } {
            if !seen.damages.iter().any(Damage::is_loss) {
                break;
            }
            let again = scan(&mut files, number, sealed, next)?;
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
        quick.log_bytes += seen.len();
        progress(quick.log_bytes, total.max(quick.log_bytes));
    }
    quick.key_ids.sort_unstable();
    quick.key_ids.dedup();
    Ok(quick)
}

/// Reads one segment. `next`: the number of the one behind it.
fn scan(files: &mut DirFiles, number: u64, sealed: bool, next: Option<u64>) -> Result<Glance> {
    let mut glance = match Glance::open(files, number, sealed, None) {
        // It was sealed since it was listed.
        Err(_) if !sealed && files.side_len(SideFile::Sealed(number))?.is_some() => {
            Glance::open(files, number, true, None)?
        }
        other => other?,
    };
    while !glance.step(files, STEP_BYTES)? {}
    match glance.end {
        Some(end) => glance.damages.extend(judge_end(files, number, next, &end)),
        None => glance.damages.extend(judge_next(files, number, glance.link, next)),
    }
    Ok(glance)
}

/// What lies in `log/` and is neither a segment nor a checkpoint, nor on its way to become one.
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
        let segment = name.parse::<SegmentName>().is_ok() || name.parse::<SealedName>().is_ok();
        let checkpoint = [0, 1].iter().any(|slot| name == SideFile::Checkpoint(*slot).to_string());
        if !segment && !checkpoint && !crate::dir::is_temporary(name) {
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
