//! How fast a log is scrubbed, and how far it is.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use serde::{Deserialize, Serialize};

use crate::dir::{Access, DataDir, read_bounded, write_atomic};
use crate::error::{Error, Result};

/// A round takes so long unless it is told otherwise.
const ROUND: Duration = Duration::from_secs(30 * 86_400);
/// Bytes read at once.
pub(crate) const PIECE_BYTES: usize = 64 << 10;
/// A slower rate than this is not kept, in bytes a second.
const SLOWEST: u64 = 256;

/// How fast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ScrubRate {
    /// Each segment about once a month.
    #[default]
    Monthly,
    /// So many bytes a second.
    BytesPerS(u64),
    /// Not at all.
    Off,
}

impl FromStr for ScrubRate {
    type Err = Error;

    /// `monthly`, `off`, or bytes a second: `500k`, `2M`.
    fn from_str(s: &str) -> Result<Self> {
        let (digits, factor) = match s.strip_suffix(['k', 'K']).map(|d| (d, 1 << 10)) {
            Some(pair) => pair,
            None => s.strip_suffix('M').map_or((s, 1), |d| (d, 1 << 20)),
        };
        match s {
            "monthly" => Ok(ScrubRate::Monthly),
            "off" => Ok(ScrubRate::Off),
            _ => match digits.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).filter(|n| *n > 0) {
                Some(n) => Ok(ScrubRate::BytesPerS(n)),
                None => Err(Error::new(Code::BadArgument, format!("{s:?}: `monthly`, `off` or bytes a second"))),
            },
        }
    }
}

/// How far scrubbing is. Losing it is harmless: it begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// The segment that is read next.
    pub next: u64,
    /// Segments read in this round, and all that there were.
    pub read: u64,
    /// See `read`.
    pub segments: u64,
    /// When this round began, when the one before ended, and when a segment was read last, in milliseconds
    /// since 1970; 0 for never.
    pub round_began_ms: u64,
    /// See `round_began_ms`.
    pub round_ended_ms: u64,
    /// See `round_began_ms`.
    pub last_ms: u64,
}

impl Progress {
    fn path(dir: &DataDir) -> PathBuf {
        dir.root().join("scrub.json")
    }

    /// What was kept of it, `None` if nothing can be read.
    #[must_use]
    pub fn load(dir: &DataDir) -> Option<Self> {
        serde_json::from_slice(&read_bounded(&Self::path(dir), 4096).ok()?).ok()
    }

    /// Keeps it. Where nothing can be written it is not kept.
    pub fn save(&self, dir: &DataDir) {
        let Ok(bytes) = serde_json::to_vec(self) else { return };
        if let Err(e) = write_atomic(&Self::path(dir), &bytes, Access::Public) {
            log::debug!("{e}");
        }
    }

    /// Whether it is time for one segment more, if a round takes a month.
    pub(crate) fn is_due(&self, now_ms: u64) -> bool {
        let each = ROUND.as_millis() as u64 / self.segments.max(1);
        now_ms.saturating_sub(self.last_ms) >= each || now_ms < self.last_ms
    }
}

/// When the next piece may be read.
#[derive(Debug)]
pub struct Pace {
    rate: ScrubRate,
    next: Instant,
}

impl Pace {
    /// The first piece may be read at once.
    #[must_use]
    pub fn new(rate: ScrubRate) -> Self {
        Self { rate, next: Instant::now() }
    }

    /// How long to wait for the next piece; `None` if there is none ever.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        (self.rate != ScrubRate::Off).then(|| self.next.saturating_duration_since(Instant::now()))
    }

    /// Something was read. `log_bytes`: of the whole log.
    pub fn spend(&mut self, bytes: u64, log_bytes: u64) {
        let rate = match self.rate {
            ScrubRate::BytesPerS(n) => n,
            _ => (log_bytes / ROUND.as_secs()).max(SLOWEST),
        };
        self.next = Instant::now() + Duration::from_millis((bytes.saturating_mul(1000) / rate.max(1)).max(1));
    }

    /// Bytes that a piece has.
    #[must_use]
    pub fn piece(&self) -> usize {
        PIECE_BYTES
    }
}
