//! What a sync may cost: bytes of a session, bytes of a day, bytes a second, hours of the day.
//!
//! Bytes are those of the wire, TLS included, both directions together, as
//! [`SyncReport`](crate::SyncReport) counts them; TCP/IP headers are not in them. Handshakes count, also
//! those of connections that failed.
//!
//! The core knows nothing of this. The runtime stands between it and the socket: a meter lets no more
//! bytes through than there may be, answers no read for a batch that would not fit any more, waits until
//! what is under way is acknowledged, and ends the session with an ERROR that says why. So no event that
//! was sent is sent again. What the hub had on its way by then comes again: at most a credit's worth, see
//! [`Budget::options`].
//!
//! | file | story |
//! |---|---|
//! | `window` | hours of the day |
//! | `bucket` | bytes a second |
//! | `days` | when a day ends, by a clock that may be wrong |
//! | `account` | what was used on which day: `traffic.json` |
//! | `meter` | one sync |
//! | `socket` | a socket with a meter |
//! | `stop` | why it may not go on, and when one may |
//! | `wind` | the end of a session whose budget has ended |
//! | `forecast` | what waits, and what it would cost |

use crate::replica::Options;

mod account;
mod bucket;
mod days;
mod forecast;
mod meter;
mod socket;
mod stop;
#[cfg(test)]
mod tests;
mod wind;
mod window;

pub use account::{Account, Day, Measured};
pub use forecast::{Forecast, LaneBacklog, forecast};
pub(crate) use meter::{Meter, Way};
pub(crate) use socket::Metered;
pub use window::{Window, Windows};

/// Bytes that a connection costs before and beside its events: two handshakes' certificates, the vectors of
/// a few streams, the farewell. A sync that may use less is not begun.
pub const SESSION_MIN_BYTES: u64 = 4 << 10;

/// The slowest [`Budget::bytes_per_s`]: below it a hub would take the silence for a dead link.
pub const RATE_MIN_BYTES_PER_S: u64 = 256;

/// What a sync may use. Without anything in it: whatever it needs.
///
/// ```
/// use ropeway_std::budget::Budget;
/// use ropeway_std::SyncOptions;
///
/// let budget = Budget { session_bytes: Some(100_000), day_bytes: Some(5_000_000), ..Budget::default() };
/// let options = SyncOptions { budget, ..SyncOptions::default() };
/// # let _ = options;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Wire bytes of this sync, both directions together; at least [`SESSION_MIN_BYTES`].
    pub session_bytes: Option<u64>,
    /// Wire bytes of a day (UTC), of all syncs of this directory together; at least [`SESSION_MIN_BYTES`].
    pub day_bytes: Option<u64>,
    /// So many bytes more than `day_bytes` on one day, for urgent events: a sync that has some to send begins
    /// although the day's bytes are used, and sends nothing else then.
    pub urgent_bytes: u64,
    /// Bytes a second that are sent at most, on average, and as many that are received; at least
    /// [`RATE_MIN_BYTES_PER_S`].
    pub bytes_per_s: Option<u64>,
    /// When a sync may run; always if there are none.
    pub windows: Windows,
}

/// A peer may have so much under way to us at least, in bytes: about two round trips of a 2G link.
const CREDIT_MIN_BYTES: usize = 4 << 10;

impl Budget {
    /// Options for opening a node that syncs within this budget: the hub may have less under way to it at
    /// once, a sixteenth of the bytes, or eight seconds' worth. So less comes that there is no room for.
    #[must_use]
    pub fn options(&self, mut options: Options) -> Options {
        let bytes = [self.session_bytes, self.day_bytes].into_iter().flatten().map(|bytes| bytes / 16);
        let least = bytes.chain(self.bytes_per_s.map(|rate| rate.saturating_mul(8))).min().unwrap_or(u64::MAX);
        let credit = usize::try_from(least).unwrap_or(usize::MAX).max(CREDIT_MIN_BYTES);
        // HELLO tells it in KiB.
        options.limits.credit_bytes = options.limits.credit_bytes.min(credit) & !1023;
        options
    }
}
