//! What a store does to remove the first segments of its log, and what there is to choose from
//! (docs/LOG.md#stub-1).

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::log::sealed::{
    At, DenseType, IndexRecord, SEALED_HEADER_BYTES, SealedHeader, Summary, index_records,
};
use ropeway_core::log::{DataKey, Header, MAX_BODY_BYTES, PAGE_BYTES};

use super::checkpoint::Origin;
use super::dense::{Unpacker, read_footer, read_frame};
use super::files::{read_full, read_side_full};
use super::{Files, Opened, SideFile, Store, recover_quickly, stub};
use crate::error::{Error, Result};

/// A sealed segment, as its footer and its index tell of it.
#[derive(Debug)]
pub(crate) struct SegmentSketch {
    pub(crate) summary: Summary,
    /// Nothing in it is younger, whatever a peer's clock has stamped: the node's own clock when the next
    /// segment began, if that is earlier than the latest stamp.
    pub(crate) newest: Hlc,
    /// The last event of each stream in it.
    pub(crate) last: BTreeMap<StreamKey, u64>,
}

/// Reads footer and index of a sealed segment.
///
/// # Errors
/// [`Code::Corrupt`] if a part of them cannot be read: then nobody knows what the segment holds.
pub(crate) fn sketch<F: Files>(files: &mut F, keys: &[(u32, DataKey)], segment: u64) -> Result<SegmentSketch> {
    let mut unpacker = Unpacker::default();
    let footer = read_footer(files, keys, &mut unpacker, segment)?;
    let (mut last, mut body) = (BTreeMap::new(), Vec::new());
    for piece in &footer.pieces {
        let at = (SideFile::Sealed(segment), piece.offset);
        if read_frame(files, &footer.cipher, &mut unpacker, at, &mut body)? != DenseType::Index {
            return Err(Error::new(Code::Corrupt, format!("the index of {}", SideFile::Sealed(segment))));
        }
        let mut key = None;
        for record in index_records(&body) {
            match record? {
                IndexRecord::Stream(stream) => key = Some(stream),
                IndexRecord::Range(range) => {
                    let top = last.entry(key.ok_or(Code::Corrupt)?).or_insert(0u64);
                    *top = range.last_seq.max(*top);
                }
            }
        }
    }
    let begun = begun_at(files, segment + 1).unwrap_or(footer.summary.hlc_max);
    Ok(SegmentSketch { summary: footer.summary, newest: begun.min(footer.summary.hlc_max), last })
}

/// A log as it is now, and what it is read from.
#[derive(Debug)]
pub(crate) struct Look<'s, F> {
    pub(crate) files: &'s mut F,
    pub(crate) keys: &'s [(u32, DataKey)],
    pub(crate) opened: Opened,
}

/// The node's clock when a segment was begun.
fn begun_at<F: Files>(files: &mut F, number: u64) -> Option<Hlc> {
    let mut page = [0; PAGE_BYTES];
    if let Ok(got) = read_full(files, number, 0, &mut page, PAGE_BYTES) {
        return Header::parse_repairing(&page[..got]).ok().map(|(h, _)| h.start.base_hlc);
    }
    let mut head = [0; SEALED_HEADER_BYTES];
    read_side_full(files, SideFile::Sealed(number), 0, &mut head).ok()?;
    SealedHeader::parse(&head).ok().map(|(h, _)| h.start.base_hlc)
}

impl<F: Files> Store<F> {
    /// Whether nothing is under way that removing segments would come in between.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.at.is_none() && self.seals.at_work.is_none()
    }

    /// The oldest sealed segment, if nothing stands before it, and the size of the log.
    ///
    /// # Errors
    /// As [`sketch`].
    pub(crate) fn oldest(&mut self) -> Result<Option<(SegmentSketch, u64)>> {
        let (_, keys, _) = self.reader.parts();
        let files = self.segments.files();
        let (hot, sealed) = (files.list()?, files.list_sealed()?);
        let stub = self.index.stub().unwrap_or(0);
        let Some(first) = sealed.iter().copied().find(|n| *n > stub).filter(|n| hot.iter().all(|h| h > n)) else {
            return Ok(None);
        };
        let mut log_bytes = 0;
        for n in hot {
            log_bytes += files.len(n)?;
        }
        for n in sealed {
            log_bytes += files.side_len(SideFile::Sealed(n))?.unwrap_or(0);
        }
        Ok(Some((sketch(files, keys, first)?, log_bytes)))
    }

    /// The log's files and its state, as they are now.
    ///
    /// # Errors
    /// Those of reading a log.
    pub(crate) fn look(&mut self, name: NodeName) -> Result<Look<'_, F>> {
        let room = self.index.origin.map_or(1024, |o| o.streams);
        let (_, keys, _) = self.reader.parts();
        let files = self.segments.files();
        let opened = recover_quickly(files, keys, name, room, MAX_BODY_BYTES)?;
        Ok(Look { files, keys, opened })
    }

    /// Removes all segments up to `upto`, if `may_go` agrees with the last event of each stream in them: puts
    /// a stub in their place, writes a checkpoint, removes the files. Says which events are gone.
    /// `random`: 32 bytes from a cryptographic source.
    ///
    /// # Errors
    /// Whatever keeps the segments from being removed: then they are still there, or the stub is durable and
    /// the next start removes what is left of them.
    pub fn expire(
        &mut self,
        upto: u64,
        may_go: &dyn Fn(&StreamKey, u64) -> bool,
        random: &mut dyn FnMut() -> Result<[u8; 32]>,
    ) -> Result<Vec<(StreamKey, At)>> {
        let Some(origin) = self.index.origin.filter(|_| self.is_at_rest()) else {
            return Err(Error::new(Code::Busy, "the log is being written or sealed"));
        };
        let files = self.segments.files();
        let (_, keys, _) = self.reader.parts();
        let written = stub::write(files, keys, &origin, upto, may_go, random()?);
        if written.is_err() {
            let _ = files.remove_side(SideFile::Unfinished);
        }
        let floors = written?;
        let gone: Vec<u64> = files.list_sealed()?.into_iter().filter(|n| *n < upto).collect();
        self.index.expire(upto, &floors);
        self.index.origin = Some(Origin { stub: Some(upto), ..origin });
        gone.iter().chain([&upto]).for_each(|n| self.reader.forget(*n));
        let newest = self.index.sealed().last().copied().unwrap_or(upto);
        self.remember(newest, random);
        let files = self.segments.files();
        for n in gone {
            files.remove_side(SideFile::Sealed(n))?;
        }
        files.sync_list()?;
        Ok(floors)
    }
}
