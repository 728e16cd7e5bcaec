//! Copies of damaged pages, set aside before anything else happens to them.

use std::path::{Path, PathBuf};

use ropeway_core::code::Code;
use ropeway_core::log::PAGE_BYTES;

use crate::dir::{Access, DataDir, write_atomic};
use crate::error::{IoContext, Result};
use crate::store::{Damage, Files, SideFile};

/// Most bytes that are kept in `quarantine/`; the oldest copies go first.
pub const QUARANTINE_MAX_BYTES: u64 = 64 << 20;
/// Most pages of one damage that are copied.
const PAGES_MAX: u64 = 4096;

/// The bytes of a damage as they can be read now, page by page: zeros stand for a page that cannot be
/// read. `None` if none can, or there are none.
fn pages_of<F: Files>(files: &mut F, damage: &Damage) -> Option<Vec<u8>> {
    let pages = damage.to_page.saturating_sub(damage.from_page).min(PAGES_MAX) as usize;
    let mut bytes = vec![0; pages * PAGE_BYTES];
    let (mut read, mut end) = (false, 0);
    for (n, page) in bytes.chunks_mut(PAGE_BYTES).enumerate() {
        let at = (damage.from_page + n as u64) * PAGE_BYTES as u64;
        let mut done = 0;
        while done < PAGE_BYTES {
            let (offset, rest) = (at + done as u64, &mut page[done..]);
            let got = match damage.sealed {
                true => files.read_side(SideFile::Sealed(damage.segment), offset, rest),
                false => files.read_at(damage.segment, offset, rest),
            };
            match got {
                Ok(n @ 1..) => done += n,
                _ => break,
            }
        }
        if done > 0 {
            (read, end) = (true, n * PAGE_BYTES + done);
        }
    }
    bytes.truncate(end);
    read.then_some(bytes)
}

/// Copies what stands in damaged pages to `quarantine/`, each damage once, and gives each one's digest:
/// zeros where nothing can be read. Without room for a copy, or on a read-only disk, there is none: that
/// must not keep the node from doing what it can.
pub fn set_aside<F: Files>(dir: &DataDir, files: &mut F, damages: &[Damage]) -> Vec<(Damage, [u8; 32])> {
    let mut all = Vec::new();
    for d in damages.iter().filter(|d| !matches!(d.code, Code::Rotten | Code::KeyMissing)) {
        let Some(bytes) = pages_of(files, d) else {
            all.push((d.clone(), [0; 32]));
            continue;
        };
        all.push((d.clone(), *blake3::hash(&bytes).as_bytes()));
        if let Err(e) = copy(dir, d, &bytes) {
            log::warn!("{e}; the damaged pages stay where they are, without a copy");
        }
    }
    all
}

fn copy(dir: &DataDir, d: &Damage, bytes: &[u8]) -> Result<()> {
    let kind = if d.sealed { "-sealed" } else { "" };
    let name = format!("seg-{:08}{kind}-pages-{}-{}.bin", d.segment, d.from_page, d.to_page);
    let (folder, to) = (dir.quarantine(), dir.quarantine().join(name));
    if to.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).at("making", &folder)?;
    make_room(&folder, bytes.len() as u64)?;
    write_atomic(&to, bytes, Access::Secret)
}

/// Removes the oldest copies until there is room for `bytes` more.
fn make_room(folder: &Path, bytes: u64) -> Result<()> {
    let mut kept: Vec<(std::time::SystemTime, u64, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder).at("listing", folder)?.flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let ours = entry.file_name().to_str().is_some_and(|n| n.starts_with("seg-") && n.ends_with(".bin"));
        if ours && meta.is_file() {
            kept.push((meta.modified().unwrap_or(std::time::UNIX_EPOCH), meta.len(), entry.path()));
        }
    }
    kept.sort();
    let mut sum: u64 = kept.iter().map(|k| k.1).sum();
    for (_, len, path) in kept {
        if sum + bytes <= QUARANTINE_MAX_BYTES {
            break;
        }
        std::fs::remove_file(&path).at("removing", &path)?;
        sum -= len;
    }
    Ok(())
}
