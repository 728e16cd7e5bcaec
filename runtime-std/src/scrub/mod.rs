//! Scrubbing: every byte of the log is read now and then, so that rot is found while a peer still has
//! what it took. By checksums, in small pieces, one segment after the other; what they call bad is read
//! again, and then with the keys, before it is believed.
//!
//! | file | story |
//! |---|---|
//! | `glance` | one segment by its checksums |
//! | `cost` | which events a damage has cost |
//! | `pace` | how fast, and where it goes on after a restart |

mod cost;
mod glance;
mod pace;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use crate::error::Result;
use crate::store::{Damage, Files, is_stub, judge_end, list_all};

pub(crate) use glance::Glance;
pub(crate) use pace::PIECE_BYTES;
pub use pace::{Pace, Progress, ScrubRate};

/// What a step of scrubbing has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scrubbed {
    /// There is nothing to read, or nobody wants it.
    Idle,
    /// So many bytes were read.
    Read(u64),
    /// A segment was read to its end: this is where it stands.
    Through(Progress),
    /// Durable data is damaged, and the log does not tell of it yet.
    Found(Vec<Damage>),
}

/// The reading of one segment after the other. See the [module](self).
#[derive(Debug)]
pub(crate) struct Scrub<F> {
    files: F,
    glance: Option<Glance>,
    /// It was read once and looked bad.
    again: bool,
    progress: Progress,
}

impl<F: Files> Scrub<F> {
    pub(crate) fn new(files: F, progress: Progress) -> Self {
        Self { files, glance: None, again: false, progress }
    }

    /// Reads about so many bytes. `end`: the segment that is written to, and its first page that is not
    /// durable. The second value: a segment that looks bad twice.
    pub(crate) fn step(&mut self, end: (u64, u64), bytes: usize, now_ms: u64) -> (Scrubbed, Option<(u64, bool)>) {
        match self.try_step(end, bytes, now_ms) {
            Ok(done) => done,
            Err(e) => {
                // It was sealed or removed meanwhile, or is of a newer version.
                log::debug!("{e}");
                (self.through(now_ms), None)
            }
        }
    }

    fn try_step(&mut self, end: (u64, u64), bytes: usize, now_ms: u64) -> Result<(Scrubbed, Option<(u64, bool)>)> {
        let Some(glance) = &mut self.glance else {
            return Ok((self.begin(end, now_ms)?, None));
        };
        if !glance.step(&mut self.files, bytes)? {
            return Ok((Scrubbed::Read(bytes as u64), None));
        }
        let (number, sealed) = (glance.number(), glance.is_sealed());
        let mut damages = std::mem::take(&mut glance.damages);
        if let Some(found) = glance.end.filter(|_| number != end.0) {
            let next = self.files.list()?.into_iter().chain(self.files.list_sealed()?).filter(|n| *n > number).min();
            damages.extend(judge_end(&mut self.files, number, next, &found));
        } else if let Some(found) = glance.end.filter(|f| f.from_page < end.1) {
            let (code, from_page, to_page) = (ropeway_core::code::Code::Corrupt, found.from_page, end.1);
            damages.push(Damage { code, segment: number, from_page, to_page, sealed: false });
        }
        let bad = damages.iter().any(Damage::is_loss);
        if bad && !self.again {
            self.again = true;
            self.glance = Some(self.open(number, sealed, end)?);
            return Ok((Scrubbed::Read(0), None));
        }
        let suspect = bad.then_some((number, sealed));
        Ok((self.through(now_ms), suspect))
    }

    /// This segment is done.
    fn through(&mut self, now_ms: u64) -> Scrubbed {
        let Some(glance) = self.glance.take() else { return Scrubbed::Idle };
        self.again = false;
        self.progress.next = glance.number() + 1;
        self.progress.read += 1;
        self.progress.last_ms = now_ms;
        Scrubbed::Through(self.progress)
    }

    /// Goes on with the next segment, or begins a new round.
    fn begin(&mut self, end: (u64, u64), now_ms: u64) -> Result<Scrubbed> {
        let (hot, mut numbers) = list_all(&mut self.files)?;
        numbers.retain(|n| *n <= end.0 || !hot.contains(n));
        let p = &mut self.progress;
        p.segments = numbers.len() as u64;
        let Some(&first) = numbers.first() else { return Ok(Scrubbed::Idle) };
        let number = match numbers.iter().find(|n| **n >= p.next) {
            Some(n) => *n,
            None => {
                (p.round_ended_ms, p.round_began_ms, p.read) = (now_ms, now_ms, 0);
                p.next = first;
                return Ok(Scrubbed::Through(*p));
            }
        };
        if p.round_began_ms == 0 {
            p.round_began_ms = now_ms;
        }
        let sealed = !hot.contains(&number);
        if sealed && is_stub(&mut self.files, number) {
            // It holds no events, stands there twice in one file, and is read at each start without a checkpoint.
            (p.next, p.read) = (number + 1, p.read + 1);
            return Ok(Scrubbed::Read(0));
        }
        self.glance = Some(self.open(number, sealed, end)?);
        Ok(Scrubbed::Read(0))
    }

    fn open(&mut self, number: u64, sealed: bool, end: (u64, u64)) -> Result<Glance> {
        // What the system still remembers proves nothing.
        self.files.drop_cached(number, sealed);
        let upto = (number == end.0).then_some(end.1 * ropeway_core::log::PAGE_BYTES as u64);
        Glance::open(&mut self.files, number, sealed, upto)
    }
}

/// Segments that looked bad and are to be read with the keys, each once.
#[derive(Debug, Default)]
pub(crate) struct Suspects(VecDeque<(u64, bool)>);

impl Suspects {
    pub(crate) fn push(&mut self, segment: u64, sealed: bool) {
        if !self.0.contains(&(segment, sealed)) {
            self.0.push_back((segment, sealed));
        }
    }

    pub(crate) fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, bool)> {
        self.0.pop_front()
    }
}
