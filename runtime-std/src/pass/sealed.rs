//! Sealed segments in a pass. They never change, so they are read once.

use std::ops::ControlFlow;

use ropeway_core::code::Code;
use ropeway_core::log::PAGE_BYTES;

use super::{Filter, Pass, Visitor};
use crate::error::Result;
use crate::store::{Damage, Files, Part, SideFile, is_stub, judge_next, listed_seals, scan_sealed, seal_of};

impl<F: Files> Pass<F> {
    /// Compares the seals with the list in the checkpoint: a sealed file never changes.
    pub(super) fn compare_seals(&mut self) {
        let Self { files, keys, unpacker, seen, .. } = self;
        for (number, digest) in listed_seals(files, keys, seen.name) {
            let there = seen.sealed_bytes.contains_key(&number);
            // One whose footer is rotten was told of already. A stub has taken the place of one that is gone.
            let there = there && !is_stub(files, number);
            if there && seal_of(files, keys, unpacker, number).is_some_and(|d| d != digest) {
                let (code, from_page, to_page) = (Code::Tampered, 0, 0);
                let damage = Damage { code, segment: number, from_page, to_page, sealed: true };
                if !seen.damages.contains(&damage) {
                    seen.damages.push(damage);
                }
            }
        }
    }

    /// Reads a sealed segment; its length and what is wrong with the segment behind it, whose number is
    /// `next`. `None` if the visitor wants no more. Damage is listed in pages of the sealed file.
    pub(super) fn sealed(
        &mut self,
        number: u64,
        next: Option<u64>,
        filter: &Filter,
        visitor: &mut impl Visitor,
    ) -> Result<Option<(u64, Option<Damage>)>> {
        self.seen.forget_from(number);
        // What is sealed is durable, and so is all before it.
        self.seen.newest = None;
        let len = self.files.side_len(SideFile::Sealed(number))?.unwrap_or(0);
        let Self { files, keys, unpacker, seen, .. } = self;
        let damage = |code, from: u64, to: u64| {
            let (from_page, to_page) = (from / PAGE_BYTES as u64, to.div_ceil(PAGE_BYTES as u64));
            Damage { code, segment: number, from_page, to_page, sealed: true }
        };
        let (mut link, mut frames, mut groups, mut stopped) = (None, 0, None, false);
        let read = scan_sealed(files, keys, unpacker, number, |part| {
            let (rotten, from, bytes) = match part {
                Part::Header(header, rotten) => {
                    link = Some(header.start.link);
                    (rotten, 0, 1)
                }
                Part::Group { offset, len, body, rotten } => {
                    frames += 1;
                    match seen.group(body, (number, offset / PAGE_BYTES as u64), filter, visitor) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => {
                            stopped = true;
                            return Err(Code::Stopping);
                        }
                        Err(code @ (Code::Limit | Code::FormatNewer)) => return Err(code),
                        Err(code) => seen.damages.push(damage(code, offset, offset + len)),
                    }
                    (rotten, offset, len)
                }
                Part::Index { offset, len, rotten } => (rotten, offset, len),
                // Only checkpoints hold such.
                Part::State(_) => return Err(Code::FormatNewer),
                Part::Seal { offset, len, summary, rotten } => {
                    groups = Some(summary.groups);
                    (rotten, offset, len)
                }
                Part::Footing { from, to } => (true, from, to - from),
                Part::Damaged { from, to, code } => {
                    seen.damages.push(damage(code, from, to));
                    (false, 0, 0)
                }
            };
            if rotten {
                seen.damages.push(damage(Code::Rotten, from, from + bytes));
            }
            Ok(())
        });
        match read {
            _ if stopped => return Ok(None),
            Ok(true) => {}
            // Its end is missing, and no damage says so.
            Ok(false) if seen.damages.last().is_none_or(|d| d.segment != number || !d.is_loss()) => {
                seen.damages.push(damage(Code::Corrupt, len, len));
            }
            Ok(false) => {}
            Err(e) if e.code == Code::SegmentHeader => {
                log::warn!("{e}");
                seen.damages.push(damage(Code::SegmentHeader, 0, len));
            }
            Err(e) => return Err(e),
        }
        seen.groups.insert(number, groups.unwrap_or(frames));
        seen.sealed_bytes.insert(number, len);
        Ok(Some((len, judge_next(files, number, link, next))))
    }
}
