//! Time for judging certificates, on machines whose clock may start in 1970.
//!
//! * A hub takes its wall clock, but never a time before the floor: the later of the program's own
//!   date and the beginning of its own certificate. It is the only judge of a clinic's dates.
//! * A clinic does not look at its wall clock at all. It judges a hub's certificate at the latest
//!   time that it can *prove* has come: the floor, or the beginning of the certificate shown. So a
//!   hub's certificate that ran out later than that is still taken. The price of needing no clock
//!   is that dates do not protect clinics from a stolen hub key: a new CA does.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;

/// 2026-01-01, before which no certificate of this program can have been made.
const WRITTEN_S: u64 = 1_767_225_600;

/// When this program was built, at the earliest, in seconds since 1970. `SOURCE_DATE_EPOCH` at build
/// time moves it forward; builds stay reproducible because nothing else does.
pub const TIME_FLOOR_S: u64 = match option_env!("SOURCE_DATE_EPOCH") {
    Some(text) => later(WRITTEN_S, parse(text.as_bytes())),
    None => WRITTEN_S,
};

const fn later(a: u64, b: u64) -> u64 {
    if a > b { a } else { b }
}

/// A decimal number; 0 if it is none.
const fn parse(digits: &[u8]) -> u64 {
    let (mut n, mut i) = (0_u64, 0);
    while i < digits.len() {
        if !digits[i].is_ascii_digit() || i == 12 {
            return 0;
        }
        n = n * 10 + (digits[i] - b'0') as u64;
        i += 1;
    }
    n
}

/// Where the time of day comes from. Tests fix it.
#[derive(Clone, Copy, Debug, Default)]
pub enum Clock {
    /// The machine's wall clock.
    #[default]
    System,
    /// A wall clock that shows this, in seconds since 1970.
    Fixed(u64),
    /// A wall clock that is asked by this function: seconds since 1970.
    Custom(fn() -> u64),
}

impl Clock {
    /// Seconds since 1970 by this clock, but not before [`TIME_FLOOR_S`].
    #[must_use]
    pub fn now_s(self) -> u64 {
        let wall_s = match self {
            Clock::Fixed(s) => s,
            Clock::Custom(ask) => ask(),
            Clock::System => SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs(),
        };
        wall_s.max(TIME_FLOOR_S)
    }
}

/// The hub's time: its wall clock, not before `floor_s`.
#[derive(Debug)]
pub(super) struct HubTime {
    pub(super) clock: Clock,
    pub(super) floor_s: u64,
}

impl TimeProvider for HubTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.clock.now_s().max(self.floor_s)))
    }
}

/// The clinic's time for ages of tickets only: it advances evenly, whatever the wall clock does.
#[derive(Debug)]
pub(super) struct SteadyTime {
    steady: fn() -> Duration,
    floor_s: u64,
}

impl SteadyTime {
    pub(super) fn new(steady: fn() -> Duration, floor_s: u64) -> Arc<Self> {
        Arc::new(Self { steady, floor_s })
    }
}

impl TimeProvider for SteadyTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.floor_s) + (self.steady)()))
    }
}

/// The machine's steady clock, since it was first asked.
pub(super) fn since_start() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

pub(super) fn unix(s: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_shows_a_time_before_the_program_was_written() {
        assert_eq!(Clock::Fixed(0).now_s(), TIME_FLOOR_S);
        assert_eq!(Clock::Fixed(TIME_FLOOR_S + 5).now_s(), TIME_FLOOR_S + 5);
        assert!(Clock::System.now_s() >= TIME_FLOOR_S);
        assert_eq!(parse(b"1800000000"), 1_800_000_000);
        assert_eq!((parse(b""), parse(b"x"), parse(b"9999999999999")), (0, 0, 0));
    }
}
