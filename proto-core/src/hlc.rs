//! Hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone: "Logical Physical Clocks",
//! OPODIS 2014), with a bound on how far a remote stamp may lead.

use core::fmt;

use crate::planted::{Bug, has, mark};

/// A stamp: 48 bits of milliseconds since 1970, 16 bits of counter. Orders like its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Hlc(u64);

/// Largest millisecond count that a stamp may carry (about the year 10,889). The value above is
/// kept out so that a stamp can always be followed by another.
pub const HLC_MAX_MS: u64 = (1 << 48) - 2;

impl Hlc {
    /// Before every event.
    pub const ZERO: Hlc = Hlc(0);

    /// A stamp from its parts; `ms` beyond [`HLC_MAX_MS`] is clamped.
    #[must_use]
    pub fn new(ms: u64, counter: u16) -> Self {
        Hlc((ms.min(HLC_MAX_MS) << 16) | u64::from(counter))
    }

    /// A stamp from its number as stored or received; `None` if it is out of range
    /// (docs/PROTOCOL.md#hlc-2).
    #[must_use]
    pub fn from_u64(raw: u64) -> Option<Self> {
        (raw >> 16 <= HLC_MAX_MS).then_some(Hlc(raw))
    }

    /// The number as stored.
    #[must_use]
    pub fn as_u64(self) -> u64 {
        self.0
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The logical part: orders events within one tick.
    #[must_use]
    pub fn counter(self) -> u16 {
        self.0 as u16
    }

    /// The smallest later stamp: the counter carries into the milliseconds, never wraps.
    /// At the very end of the range it stays.
    #[must_use]
    pub fn next(self) -> Self {
        if self.counter() == u16::MAX {
            mark!("hlc.counter_carried");
            if has(Bug::CounterWraps) {
                return Hlc(self.ms() << 16);
            }
        }
        Self::from_u64(self.0 + 1).unwrap_or(self)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// How a remote stamp compared with the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Within the bound: the local clock is now not behind it.
    Merged,
    /// Further ahead than the bound: the local clock did not move; mark the event.
    Future,
}

/// The clock of one node. It has no notion of "now": callers pass the wall clock in.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    last: Hlc,
    bound_ms: u64,
    tick_ms: u64,
}

impl Clock {
    /// A clock that continues after `last` (recovered from the log).
    ///
    /// `bound_ms`: how far a remote stamp may lead the wall clock and still be merged.
    /// `tick_ms` (1 or more): granularity of the physical part. Coarse ticks make stamps cheap on
    /// the wire; the counter keeps the order within one.
    #[must_use]
    pub fn new(last: Hlc, bound_ms: u64, tick_ms: u64) -> Self {
        Self { last, bound_ms, tick_ms: tick_ms.max(1) }
    }

    /// The last stamp issued or merged.
    #[must_use]
    pub fn last(&self) -> Hlc {
        self.last
    }

    /// A stamp for a local event: later than every stamp before, whatever the wall clock says. A
    /// clock that boots in 1970 or steps back is carried by the counter.
    pub fn tick(&mut self, wall_ms: u64) -> Hlc {
        let physical = Hlc::new(wall_ms - wall_ms % self.tick_ms, 0);
        if wall_ms < self.last.ms() {
            mark!("hlc.wall_behind");
        }
        self.last = if physical > self.last || has(Bug::StampRepeats) { physical } else { self.last.next() };
        self.last
    }

    /// Takes note of a stamp from another node.
    pub fn observe(&mut self, remote: Hlc, wall_ms: u64) -> Observed {
        // A wall clock behind our own last stamp (1970) must not turn honest peers into liars.
        let trusted = wall_ms.max(self.last.ms());
        if remote.ms() > trusted.saturating_add(self.bound_ms) && !has(Bug::RemoteStampUnbounded) {
            mark!("hlc.future_stamp");
            return Observed::Future;
        }
        self.last = self.last.max(remote);
        Observed::Merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_grow_when_the_wall_clock_stands_still_or_steps_back() {
        let mut c = Clock::new(Hlc::ZERO, 60_000, 1);
        let mut last = Hlc::ZERO;
        for wall in [1_000_000, 1_000_000, 999_000, 0, 1_000_001] {
            let t = c.tick(wall);
            assert!(t > last);
            last = t;
        }
        assert_eq!(last, Hlc::new(1_000_001, 0));
    }

    #[test]
    fn a_clock_that_boots_in_1970_continues_after_the_saved_stamp() {
        let saved = Hlc::new(1_770_000_000_000, 3);
        let mut c = Clock::new(saved, 60_000, 1000);
        assert_eq!(c.tick(12_345), saved.next());
    }

    #[test]
    fn the_counter_carries_into_the_milliseconds() {
        let mut c = Clock::new(Hlc::new(5, u16::MAX), 60_000, 1);
        assert_eq!(c.tick(0), Hlc::new(6, 0));
    }

    #[test]
    fn a_far_future_stamp_never_moves_the_clock() {
        let mut c = Clock::new(Hlc::new(1_000_000, 0), 60_000, 1);
        assert_eq!(c.observe(Hlc::new(HLC_MAX_MS, 9), 1_000_000), Observed::Future);
        assert_eq!(c.last(), Hlc::new(1_000_000, 0));
        assert_eq!(c.observe(Hlc::new(1_060_000, 1), 1_000_000), Observed::Merged);
        assert_eq!(c.tick(1_000_001), Hlc::new(1_060_000, 2));
    }

    #[test]
    fn the_top_of_the_range_is_refused_as_input_and_never_issued() {
        assert_eq!(Hlc::from_u64(u64::MAX), None);
        let mut c = Clock::new(Hlc::ZERO, 0, 1);
        assert!(c.tick(u64::MAX).ms() <= HLC_MAX_MS);
    }

    #[test]
    fn a_coarse_tick_keeps_the_order_by_the_counter() {
        let mut c = Clock::new(Hlc::ZERO, 0, 1000);
        assert_eq!(c.tick(5_432), Hlc::new(5_000, 0));
        assert_eq!(c.tick(5_999), Hlc::new(5_000, 1));
        assert_eq!(c.tick(6_000), Hlc::new(6_000, 0));
    }
}
