//! The two slots in `keys/keyring`, and how they are replaced.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use ropeway_core::code::Code;

use super::slot::{SLOT_BYTES, Slot, parse_slot, seal_slot};
use super::{Kek, Keyring};
use crate::dir::{Access, read_secret, write_atomic};
use crate::error::{Error, IoContext, Result};

/// Longest file that is looked at: a newer version may have longer slots.
const FILE_MAX_BYTES: usize = 64 << 10;
/// A disk changes so many bytes at once, so what does not change is not written.
const BLOCK_BYTES: usize = 4096;

/// The slots of a keyring file: the one that counts, and the other if it can be read.
pub(crate) struct Slots {
    newest: Slot,
    newest_at: usize,
    other: Option<Slot>,
}

impl Slots {
    /// The slot that counts, and whether the other one differs.
    pub(crate) fn newest(&self) -> (&Slot, bool) {
        let differs = self.other.as_ref().is_none_or(|other| other.bytes() != self.newest.bytes());
        (&self.newest, differs)
    }

    fn at(&self, n: usize) -> Option<&Slot> {
        if n == self.newest_at { Some(&self.newest) } else { self.other.as_ref() }
    }
}

/// Reads the content of the file: [`Code::FormatNewer`] if any slot is of a newer version,
/// [`Code::KeyBad`] if none can be read.
pub(crate) fn parse_file(bytes: &[u8]) -> std::result::Result<Slots, Code> {
    let slot = |n: usize| match bytes.get(n * SLOT_BYTES..(n + 1) * SLOT_BYTES).map(parse_slot) {
        Some(Err(Code::FormatNewer)) => Err(Code::FormatNewer),
        Some(Ok(slot)) => Ok(Some(slot)),
        _ => Ok(None),
    };
    let (newest, newest_at, other) = match (slot(0)?, slot(1)?) {
        (Some(a), Some(b)) if b.generation > a.generation => (b, 1, Some(a)),
        (Some(a), b) => (a, 0, b),
        (None, Some(b)) => (b, 1, None),
        (None, None) => return Err(Code::KeyBad),
    };
    Ok(Slots { newest, newest_at, other })
}

/// Reads the file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Slots>> {
    let bytes = match read_secret(path, FILE_MAX_BYTES) {
        Err(e) if e.code == Code::KeyMissing => return Ok(None),
        other => other?,
    };
    match parse_file(&bytes) {
        Ok(slots) => Ok(Some(slots)),
        Err(code) => {
            let what = if code == Code::FormatNewer { "a newer version wrote it" } else { "neither slot can be read" };
            Err(Error::at(code, path, what))
        }
    }
}

fn sealed(ring: &Keyring, kek: &Kek) -> Result<Vec<u8>> {
    let mut nonce = [0; 24];
    crate::cert::random(&mut nonce)?;
    seal_slot(ring, kek, &nonce).map_err(|code| match code {
        Code::Limit => Error::new(code, format!("a keyring holds at most {} data keys", super::KEYS_MAX)),
        code => Error::new(code, "the path of the key file is too long"),
    })
}

/// Makes the file: whole or not at all. The bytes written.
pub(super) fn create(path: &Path, ring: &Keyring, kek: &Kek) -> Result<u64> {
    let slots = sealed(ring, kek)?.repeat(2);
    write_atomic(path, &slots, Access::Secret)?;
    Ok(slots.len() as u64)
}

/// Replaces both slots, the older one first: at every moment one of them is whole. `step` hears of
/// each write before it. The bytes written.
pub(super) fn replace(
    path: &Path,
    old: &Slots,
    ring: &Keyring,
    kek: &Kek,
    step: &mut dyn FnMut(&'static str) -> Result<()>,
) -> Result<u64> {
    let slot = sealed(ring, kek)?;
    // Nothing is written that cannot be read.
    parse_slot(&slot).and_then(|s| s.open(kek)).map_err(|code| Error::at(code, path, "the new keyring"))?;
    let file = OpenOptions::new().write(true).open(path).at("opening", path)?;
    let mut written = 0;
    let mut write = |n: usize, before: Option<&[u8]>, slot: &[u8]| {
        for (block, at) in slot.chunks(BLOCK_BYTES).zip((0..).step_by(BLOCK_BYTES)) {
            if before.is_some_and(|b| b[at..at + block.len()] == *block) {
                continue;
            }
            file.write_all_at(block, (n * SLOT_BYTES + at) as u64).at("writing", path)?;
            written += block.len() as u64;
        }
        file.sync_all().at("syncing", path)
    };
    let (newest, other) = (old.newest_at, 1 - old.newest_at);
    if old.other.is_some() && old.newest().1 {
        // A rekey did not come to its end: what counts may stand in the page cache only, since a sync
        // that failed is forgotten. It must be durable before the other slot goes.
        step("newest slot again")?;
        write(newest, None, old.newest.bytes())?;
    }
    step("first slot")?;
    write(other, old.at(other).map(Slot::bytes), &slot)?;
    step("second slot")?;
    write(newest, old.at(newest).map(Slot::bytes), &slot)?;
    Ok(written)
}
