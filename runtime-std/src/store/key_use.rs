//! Which data keys a log was written under: read from its epoch headers, without any key.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::log::sealed::{SEALED_HEADER_BYTES, SealedHeader};
use ropeway_core::log::{DataKey, HEADER_BYTES, Header, PAGE_BYTES};

use super::Files;
use super::SideFile;
use super::files::{read_full, read_side_full};
use crate::error::{Error, Result};

/// The use of one data key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUse {
    /// Segments with an epoch under it, ascending.
    pub segments: Vec<u64>,
    /// A header under its number was made with another key than the one given.
    pub other_key: bool,
}

/// Segment and page of an epoch header of any version (docs/LOG.md#header-2).
fn stands_at(head: &[u8; HEADER_BYTES]) -> (u64, u64) {
    let number = |at: usize| head[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    (number(24), number(32))
}

/// The use of every data key that an epoch header of the log names, by its number. `keys`: those to
/// compare with. Reads the beginning of each page. What cannot be read counts as unused.
///
/// # Errors
/// [`Code::FormatNewer`] if a segment or a checkpoint is of a newer version: nobody can tell which keys it needs
/// (docs/LOG.md#header-3). If the files cannot be listed.
pub fn key_use<F: Files>(files: &mut F, keys: &[(u32, DataKey)]) -> Result<BTreeMap<u32, KeyUse>> {
    let mut all = BTreeMap::<u32, KeyUse>::new();
    for number in files.list()? {
        let pages = files.len(number).unwrap_or(0).div_ceil(PAGE_BYTES as u64);
        for page in 0..pages {
            let mut head = [0; HEADER_BYTES];
            let read = read_full(files, number, page * PAGE_BYTES as u64, &mut head, HEADER_BYTES);
            if !matches!(read, Ok(HEADER_BYTES)) || !head.starts_with(&super::segment::MAGIC[..4]) {
                continue;
            }
            let (header, _) = match Header::parse_repairing(&head) {
                Ok(found) => found,
                // In any other place it is a leftover.
                Err(Code::FormatNewer) if stands_at(&head) == (number, page) => {
                    return Err(Error::at(Code::FormatNewer, &files.describe(number), "a newer version wrote it"));
                }
                Err(_) => continue,
            };
            if (header.start.segment, header.start.page) != (number, page) {
                continue;
            }
            let of_key = all.entry(header.start.key_id).or_default();
            if of_key.segments.last() != Some(&number) {
                of_key.segments.push(number);
            }
            let key = keys.iter().find(|k| k.0 == header.start.key_id);
            of_key.other_key |= key.is_some_and(|(_, key)| !header.is_under(key));
        }
    }
    for number in files.list_sealed()? {
        let Some(header) = sealed_header(files, SideFile::Sealed(number))? else { continue };
        let of_key = all.entry(header.start.key_id).or_default();
        if !of_key.segments.contains(&number) {
            of_key.segments.push(number);
        }
        let key = keys.iter().find(|k| k.0 == header.start.key_id);
        of_key.other_key |= key.is_some_and(|(_, key)| !header.is_under(key));
    }
    for slot in [0, 1] {
        sealed_header(files, SideFile::Checkpoint(slot))?;
    }
    all.values_mut().for_each(|of_key| of_key.segments.sort_unstable());
    Ok(all)
}

/// The header of a sealed file, if there is one that can be read.
fn sealed_header<F: Files>(files: &mut F, file: SideFile) -> Result<Option<SealedHeader>> {
    let mut head = [0; SEALED_HEADER_BYTES];
    let read = match files.side_len(file) {
        Ok(Some(_)) => read_side_full(files, file, 0, &mut head),
        _ => return Ok(None),
    };
    match (read, SealedHeader::parse(&head)) {
        (Ok(SEALED_HEADER_BYTES), Ok((header, _))) => Ok(Some(header)),
        (Ok(SEALED_HEADER_BYTES), Err(Code::FormatNewer)) => {
            Err(Error::new(Code::FormatNewer, format!("{file}: a newer version wrote it")))
        }
        _ => Ok(None),
    }
}
