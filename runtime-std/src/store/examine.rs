//! One segment, read with the keys as at opening: what is wrong with it.

use ropeway_core::code::Code;
use ropeway_core::log::{DataKey, MAX_BODY_BYTES, PAGE_BYTES, SegmentScan, Step};

use super::ahead::ReadAhead;
use super::dense::{Part, Unpacker, scan_sealed};
use super::files::read_side_full;
use super::recover::judge_end;
use super::{Damage, Files, Store};
use crate::error::Result;
use crate::scrub::{Progress, Scrub, Scrubbed};

impl<F: Files> Store<F> {
    /// Wants the log to be scrubbed, through files of its own.
    pub fn begin_scrub(&mut self, files: F, progress: Progress) {
        self.scrub = Some(Scrub::new(files, progress));
    }

    /// Scrubs about so many bytes more: call it when nothing else is to be done. Segments in which a read
    /// has failed come first. The checkpoint is removed when damage is found, so that no start forgets it.
    pub fn scrub(&mut self, bytes: usize, now_ms: u64) -> Scrubbed {
        if let Some((segment, sealed)) = self.suspects.pop() {
            let found = self.examine(segment, sealed);
            if !found.is_empty() {
                self.distrust();
                return Scrubbed::Found(found);
            }
        }
        let Some(scrub) = &mut self.scrub else { return Scrubbed::Idle };
        let (done, suspect) = scrub.step(self.end, bytes, now_ms);
        if let Some((segment, sealed)) = suspect {
            self.suspects.push(segment, sealed);
        }
        done
    }

    /// True if a segment waits to be read with the keys.
    #[must_use]
    pub fn is_suspicious(&self) -> bool {
        self.suspects.is_any()
    }

    /// Bytes of all segment files.
    pub fn log_bytes(&mut self) -> u64 {
        let files = self.segments.files();
        let hot: u64 = files.list().unwrap_or_default().into_iter().map(|n| files.len(n).unwrap_or(0)).sum();
        let sealed = files.list_sealed().unwrap_or_default().into_iter();
        hot + sealed.map(|n| files.side_len(super::SideFile::Sealed(n)).ok().flatten().unwrap_or(0)).sum::<u64>()
    }

    /// The damage of a segment that the log does not tell of yet. Where the device fails to read, nobody knows
    /// what stands there, and it may be back: that is left to the next start.
    fn examine(&mut self, segment: u64, sealed: bool) -> Vec<Damage> {
        self.reader.forget(segment);
        let end = self.end;
        let (files, keys, footers) = self.reader.parts();
        let found = if sealed {
            examine_sealed(files, keys, &mut footers.unpacker, segment)
        } else {
            examine_hot(files, keys, segment, end)
        };
        let mut found = found.unwrap_or_else(|e| {
            log::warn!("{e}");
            Vec::new()
        });
        found.retain(|d| d.is_loss() && d.code != Code::KeyMissing && self.index.ledger.about(d).is_none());
        found
    }
}

fn examine_sealed<F: Files>(
    files: &mut F,
    keys: &[(u32, DataKey)],
    unpacker: &mut Unpacker,
    segment: u64,
) -> Result<Vec<Damage>> {
    let mut all = Vec::new();
    let mut damage = |code, from: u64, to: u64| {
        let (from_page, to_page) = (from / PAGE_BYTES as u64, to.div_ceil(PAGE_BYTES as u64));
        all.push(Damage { code, segment, from_page, to_page, sealed: true });
    };
    let len = files.side_len(super::SideFile::Sealed(segment))?.unwrap_or(0);
    let (mut at, mut piece) = (0, vec![0; 64 << 10]);
    while at < len {
        match read_side_full(files, super::SideFile::Sealed(segment), at, &mut piece)? {
            0 => break,
            n => at += n as u64,
        }
    }
    let read = scan_sealed(files, keys, unpacker, segment, |part| {
        if let Part::Damaged { from, to, code } = part {
            damage(code, from, to);
        }
        Ok(())
    });
    match read {
        Err(e) if e.code == Code::SegmentHeader => damage(e.code, 0, len),
        Ok(false) => damage(Code::Corrupt, len, len),
        other => drop(other?),
    }
    // The end is told of where no damage before it says the same.
    if all.len() > 1 {
        all.retain(|d| d.from_page < d.to_page);
    }
    Ok(all)
}

fn examine_hot<F: Files>(files: &mut F, keys: &[(u32, DataKey)], segment: u64, end: (u64, u64)) -> Result<Vec<Damage>> {
    let (mut all, mut input) = (Vec::new(), ReadAhead::default());
    let len = input.open(files, segment)?;
    // Behind the end pages may be on their way.
    let last = segment == end.0;
    let len = if last { len.min(end.1 * PAGE_BYTES as u64) } else { len };
    let mut scan = SegmentScan::new(keys, segment, len, MAX_BODY_BYTES)?;
    let mut damage = |code, from_page, to_page| {
        all.push(Damage { code, segment, from_page, to_page, sealed: false });
    };
    loop {
        let step = match scan.poll_want() {
            None => scan.feed(&mut []),
            Some(want) => match input.read(files, want.offset, want.len) {
                Ok(bytes) => scan.feed(bytes),
                Err(e) => return Err(e),
            },
        };
        match step {
            Step::NeedMore | Step::Epoch { .. } | Step::Group { .. } => {}
            Step::Damaged { from_page, to_page, verdict } => {
                damage(verdict.code().unwrap_or(Code::Corrupt), from_page, to_page);
            }
            Step::End(found) if last => {
                // All of it was durable.
                if found.from_page < end.1 {
                    damage(Code::Corrupt, found.from_page, end.1);
                }
                return Ok(all);
            }
            Step::End(found) => {
                let next = files.list()?.into_iter().chain(files.list_sealed()?).filter(|n| *n > segment).min();
                all.extend(judge_end(files, segment, next, &found));
                return Ok(all);
            }
            Step::Fault(code) => return Err(code.into()),
        }
    }
}
