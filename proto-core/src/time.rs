//! Time as the core sees it: two numbers that the caller passes in.

/// Milliseconds of a monotonic clock since any fixed moment (boot, start of the process). All
/// timeouts are computed from it, never from the wall clock, which on a Pi jumps by decades.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Instant(pub u64);

impl Instant {
    /// Later than every other instant.
    pub const FAR: Instant = Instant(u64::MAX);

    /// This instant moved forward, saturating.
    #[must_use]
    pub fn after_ms(self, ms: u64) -> Instant {
        Instant(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`, 0 if it is not earlier.
    #[must_use]
    pub fn ms_since(self, earlier: Instant) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What the caller's clocks show at the moment of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Now {
    /// Monotonic clock. A step backwards is taken as no step at all.
    pub at: Instant,
    /// Wall clock, milliseconds since 1970-01-01T00:00:00Z. May be wrong; it stamps events (through
    /// the hybrid logical clock) and decides nothing else.
    pub wall_ms: u64,
}

impl Now {
    /// Both clocks.
    #[must_use]
    pub fn new(at_ms: u64, wall_ms: u64) -> Self {
        Self { at: Instant(at_ms), wall_ms }
    }
}
