//! What was used on which day: `traffic.json`.
//!
//! Where a directory has a budget of the day, its bytes are counted *ahead*: a slice is written down
//! durably before any of it is used, and what was not used of it is given back at the end. So a process
//! that is killed forgets nothing; it leaves up to one slice counted that was not used. A slice has 16 KiB;
//! on a fast link, where it is used up within a quarter of a second, up to 1 MiB, and never more than the day has
//! left. On a 2G link that is one small file replaced about every six seconds. A directory that never had such
//! a budget is counted at the end of a sync only.

use std::path::PathBuf;

use ropeway_core::code::Code;
use serde::{Deserialize, Serialize};

use super::days::{Calendar, Look, boot_id};
use crate::dir::{Access, DataDir, exists, read_bounded, write_atomic};
use crate::error::{Error, Result};

/// Version of the file that this program writes.
const VERSION: u32 = 1;
const LIMIT_BYTES: usize = 16 << 10;
/// Days that are kept.
const DAYS_MAX: usize = 14;

/// Bytes of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Which: days since 1970 (UTC), as the clock showed it.
    pub day: u64,
    /// Bytes sent.
    pub up: u64,
    /// Bytes received.
    pub down: u64,
    /// Bytes counted ahead, and those that a process that was killed has not given back.
    pub ahead: u64,
}

impl Day {
    /// All of them: what counts against a budget.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.up.saturating_add(self.down).saturating_add(self.ahead)
    }
}

/// What the last sync has shown of the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Wire bytes a second, both directions together, of the last sync that moved enough to tell.
    pub bytes_per_s: Option<u64>,
    /// Milliseconds until a TCP connection was there: about one round trip.
    pub rtt_ms: Option<u64>,
}

/// What a directory's syncs have used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// The last days on which something was used, the newest last.
    pub days: Vec<Day>,
    /// The budget of a day, if one was ever given: the last one.
    pub day_bytes: Option<u64>,
    /// The link.
    #[serde(default)]
    pub link: Measured,
    calendar: Calendar,
    /// Of the newest day's `ahead`: what this process may still use.
    #[serde(skip)]
    reserved: u64,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    #[serde(flatten)]
    account: Account,
}

impl Account {
    fn path(dir: &DataDir) -> PathBuf {
        dir.root().join("traffic.json")
    }

    /// What is known of a directory's use, brought up to the present day; `None` if nothing can be read.
    /// Changes nothing, and needs no lock.
    #[must_use]
    pub fn read(dir: &DataDir) -> Option<Self> {
        let mut account = Self::load(dir).ok()??;
        account.look(&Look::now(), &boot_id());
        Some(account)
    }

    /// As it was written, `None` if it never was.
    ///
    /// # Errors
    /// [`Code::Config`] if it cannot be understood, [`Code::FormatNewer`], [`Code::Io`].
    pub(super) fn load(dir: &DataDir) -> Result<Option<Self>> {
        let path = Self::path(dir);
        if !exists(&path)? {
            return Ok(None);
        }
        let json: Json = read_bounded(&path, LIMIT_BYTES)
            .and_then(|bytes| crate::retain::versioned(&bytes, VERSION))
            .map_err(|e| if e.context.contains("traffic.json") { e } else { e.in_file(&path) })?;
        Ok(Some(json.account))
    }

    /// One for a file that cannot be understood: nobody knows what was used today, so nothing of today's
    /// budget is left. Tomorrow all is as ever.
    pub(super) fn doubtful(look: &Look, boot: &str, day_bytes: u64) -> Self {
        let mut account = Self::default();
        account.look(look, boot);
        account.today().ahead = day_bytes;
        account
    }

    /// Looks at the clocks, and begins a day if one has begun.
    pub(super) fn look(&mut self, look: &Look, boot: &str) {
        let begun = self.calendar.look(look, boot);
        if begun || self.days.is_empty() {
            self.give_back();
            self.days.push(Day { day: self.calendar.day, ..Day::default() });
            let old = self.days.len().saturating_sub(DAYS_MAX);
            self.days.drain(..old);
        }
    }

    /// The present day.
    pub(super) fn today(&mut self) -> &mut Day {
        if self.days.is_empty() {
            self.days.push(Day { day: self.calendar.day, ..Day::default() });
        }
        let last = self.days.len() - 1;
        &mut self.days[last]
    }

    /// What was used on the present day.
    #[must_use]
    pub fn used_today(&self) -> u64 {
        self.days.last().map_or(0, Day::used)
    }

    /// What is left of a budget of the day, what was reserved for this process included.
    pub(super) fn left_of(&self, day_bytes: u64) -> u64 {
        day_bytes.saturating_sub(self.used_today().saturating_sub(self.reserved))
    }

    /// Seconds until the next day begins at the latest, and whether the clock is behind.
    pub(super) fn day_left_s(&self, look: &Look) -> (u64, bool) {
        (self.calendar.left_s(look), self.calendar.is_behind())
    }

    /// What may be used before more is reserved.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved
    }

    /// Counts ahead. Durable when it returns.
    ///
    /// # Errors
    /// [`Code::Io`], [`Code::DiskFull`], [`Code::ReadOnly`]; then nothing was reserved.
    pub(super) fn reserve(&mut self, dir: &DataDir, bytes: u64) -> Result<()> {
        self.today().ahead += bytes;
        self.reserved += bytes;
        self.save(dir).inspect_err(|_| {
            self.reserved -= bytes;
            self.today().ahead -= bytes;
        })
    }

    /// Counts what has gone over the wire, out of what was reserved as far as it goes.
    pub(super) fn spend(&mut self, up: u64, down: u64) {
        let counted = self.reserved.min(up + down);
        self.reserved -= counted;
        let today = self.today();
        today.up = today.up.saturating_add(up);
        today.down = today.down.saturating_add(down);
        today.ahead -= counted;
    }

    /// What was reserved and not used is free again, once it is saved.
    pub(super) fn give_back(&mut self) {
        let reserved = std::mem::take(&mut self.reserved);
        if let Some(today) = self.days.last_mut() {
            today.ahead = today.ahead.saturating_sub(reserved);
        }
    }

    /// Writes it. Durable when it returns.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin; then the file is as it was.
    pub(super) fn save(&self, dir: &DataDir) -> Result<()> {
        let path = Self::path(dir);
        let json = Json { version: VERSION, account: self.clone() };
        let mut bytes =
            serde_json::to_vec(&json).map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
        bytes.push(b'\n');
        write_atomic(&path, &bytes, Access::Public)
    }
}
