//! What really happened, against which everything is held.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ropeway_core::code::Code;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::StreamKey;
use ropeway_core::withheld::Withheld;

use crate::check::{Check, Failure};
use crate::rule::is_refused;

/// Lines of the trace that are kept for a person to read.
const TAIL_LINES: usize = 400_000;

/// An event as its origin appended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) print: u64,
    pub(crate) hlc: Hlc,
}

/// See the [module](self).
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// What the origin of each stream appended.
    pub(crate) events: BTreeMap<StreamKey, Vec<Known>>,
    /// Where disks may lose what was durable, numbers are given out twice, and both events are true.
    pub(crate) branches: Option<BTreeMap<(StreamKey, u64), Vec<Known>>>,
    /// Salt and page of every frame that was ever sealed, on any disk.
    sealed: BTreeMap<([u8; 32], u64), u64>,
    /// The first thing that went wrong.
    pub(crate) failed: Option<Failure>,
    /// Bytes of the smallest payload that some hub need not take.
    pub(crate) refusable_from: Option<u64>,
    /// Events that a rule may refuse.
    refusable: BTreeSet<(StreamKey, u64)>,
    /// Damage has struck a disk.
    pub(crate) damaged: bool,
    /// A scenario has made two histories of a stream.
    pub(crate) forked: bool,
    /// A check that is switched off.
    pub(crate) blind: Option<Check>,
    /// The only checks that are asked for.
    pub(crate) only: Option<&'static [Check]>,
    /// How often each check was made.
    pub(crate) made: BTreeMap<Check, u64>,
    /// Hash over everything that happened.
    pub(crate) trace: Trace,
    /// The last lines of the trace.
    pub(crate) tail: VecDeque<String>,
    pub(crate) keep_tail: bool,
}

impl Truth {
    /// Notes the first failure. A check that is switched off sees nothing.
    pub(crate) fn fail(&mut self, check: Check, what: impl Into<String>) {
        let asked = self.blind != Some(check) && self.only.is_none_or(|only| only.contains(&check));
        if self.failed.is_none() && asked {
            self.failed = Some(Failure { check, what: what.into() });
        }
    }

    /// Notes that a check was made, and its failure.
    pub(crate) fn hold(&mut self, check: Check, holds: bool, what: impl FnOnce() -> String) {
        *self.made.entry(check).or_default() += 1;
        if !holds {
            self.fail(check, what());
        }
    }

    pub(crate) fn note(&mut self, line: std::fmt::Arguments<'_>) {
        let _ = std::fmt::Write::write_fmt(&mut self.trace, line);
        self.trace.0 = fold(self.trace.0, b"\n");
        // What comes after a failure explains nothing, but for the words of the frame that showed it.
        let line = if self.keep_tail { line.to_string() } else { return };
        if self.failed.is_none() || line.starts_with(' ') {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: String) {
        if self.tail.len() >= TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// A line for a person only: it is no part of the trace's hash.
    pub(crate) fn remark(&mut self, line: std::fmt::Arguments<'_>) {
        if self.keep_tail {
            self.keep(line.to_string());
        }
    }

    /// A frame was sealed. The very same bytes once more, as after a crash that took them, give nothing
    /// away.
    pub(crate) fn sealed(&mut self, salt: [u8; 32], page: u64, bytes: &[u8]) {
        let print = fold(FNV_START, bytes);
        let before = *self.sealed.entry((salt, page)).or_insert(print);
        self.hold(Check::NonceOnce, before == print, || format!("page {page} was sealed twice under one salt"));
    }

    /// An event was appended: its number must be the next, its stamp later than the last.
    pub(crate) fn appended(&mut self, key: StreamKey, seq: u64, print: u64, hlc: Hlc) {
        let events = self.events.entry(key).or_default();
        let (known, last) = (events.len() as u64, events.last().map_or(Hlc::ZERO, |e| e.hlc));
        events.push(Known { print, hlc });
        self.hold(Check::NumberOnce, seq == known + 1, || format!("{key}: seq {seq} was given after {known}"));
        self.hold(Check::ClockGrows, hlc > last, || format!("{key}: event {seq} is stamped {hlc:?}, after {last:?}"));
    }

    /// An event is of this kind.
    pub(crate) fn note_kind(&mut self, key: StreamKey, seq: u64, kind: u16) {
        // A number may be given twice, where the first event was never durable.
        match is_refused(kind) {
            true => self.refusable.insert((key, seq)),
            false => self.refusable.remove(&(key, seq)),
        };
    }

    /// Events beyond `kept` are gone.
    pub(crate) fn truncate(&mut self, key: &StreamKey, kept: u64) {
        let Some(events) = self.events.get_mut(key) else { return };
        let gone = events.split_off((kept as usize).min(events.len()));
        if let Some(branches) = &mut self.branches {
            for (e, seq) in gone.into_iter().zip(kept + 1..) {
                branches.entry((*key, seq)).or_default().push(e);
            }
        }
    }

    /// What the origin wrote where only a place stands: an event that somebody need not take, or one that damage took.
    pub(crate) fn place(&mut self, who: &str, key: &StreamKey, seq: u64, place: &Withheld) -> (u64, Hlc) {
        let lost = place.reason() == Code::Corrupt && self.damaged;
        let refused = place.reason() == Code::TooLarge && self.refusable_from.is_some_and(|least| place.bytes >= least);
        let by_rule = place.reason() == Code::Refused && self.refusable.contains(&(*key, seq));
        self.hold(Check::Withheld, lost || refused || by_rule, || format!("{who}: {key} {seq} is withheld, {place:?}"));
        let known = self.events.get(key).and_then(|e| e.get(seq as usize - 1));
        known.map_or((0, Hlc::ZERO), |k| (k.print, k.hlc))
    }

    /// Whether these events are what the origin wrote.
    pub(crate) fn compare(&mut self, who: &str, key: &StreamKey, first: u64, events: &[(u64, Hlc)]) {
        let known = self.events.get(key).map_or(&[][..], Vec::as_slice);
        let at = first.saturating_sub(1) as usize;
        let same = known
            .get(at..at + events.len())
            .is_some_and(|known| known.iter().zip(events).all(|(k, (print, hlc))| k.print == *print && k.hlc == *hlc));
        let same = same
            || self.branches.as_ref().is_some_and(|branches| {
                events.iter().zip(first..).all(|((print, hlc), seq)| {
                    let e = Known { print: *print, hlc: *hlc };
                    known.get(seq as usize - 1) == Some(&e)
                        || branches.get(&(*key, seq)).is_some_and(|b| b.contains(&e))
                })
            });
        let upto = at + events.len();
        self.hold(Check::AsAppended, same, || {
            format!("{who}: events {first}..{upto} of {key} are not what was appended")
        });
    }
}

/// FNV-1a over the lines of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Trace(pub(crate) u64);

impl Default for Trace {
    fn default() -> Self {
        Trace(FNV_START)
    }
}

impl std::fmt::Write for Trace {
    fn write_str(&mut self, s: &str) -> std::fmt::Result {
        self.0 = fold(self.0, s.as_bytes());
        Ok(())
    }
}

/// What an event is recognised by (FNV-1a).
#[must_use]
pub fn fingerprint(kind: u16, payload: &[u8]) -> u64 {
    fold(fold(FNV_START, &kind.to_le_bytes()), payload)
}

pub(crate) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

pub(crate) fn fold(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}
