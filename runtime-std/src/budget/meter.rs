//! The budget of one sync: how much may pass, and what has passed.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use ropeway_core::code::Code;

use super::account::{Account, Measured};
use super::bucket::Bucket;
use super::days::{Look, boot_id};
use super::stop::Stop;
use super::{Budget, RATE_MIN_BYTES_PER_S, SESSION_MIN_BYTES};
use crate::dir::DataDir;
use crate::error::{Error, Result};

/// What is kept for acknowledgements, for asking whether the peer is there, and for the farewell, in bytes.
const RESERVE_BYTES: u64 = 1 << 10;
/// A batch in less room is not worth its frame.
const BATCH_MIN_BYTES: u64 = 512;
/// A frame's head, its TLS records' and the batch's, at their longest; and what 512 bytes more of it cost
/// for further records.
const FRAME_SLACK_BYTES: u64 = 160;
/// Bytes that are counted ahead on a slow link, and on a fast one.
const SLICE_MIN_BYTES: u64 = 16 << 10;
const SLICE_MAX_BYTES: u64 = 1 << 20;
/// A sync that moved less says nothing of the link's rate.
const TELLING_BYTES: u64 = 4 << 10;

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

/// Shared by the sync and its connections, one after the other.
#[derive(Clone)]
pub(crate) struct Meter(Rc<RefCell<Inner>>);

type Clock = Box<dyn Fn() -> Look>;

pub(super) struct Inner {
    pub(super) budget: Budget,
    dir: DataDir,
    pub(super) account: Account,
    pub(super) clock: Clock,
    boot: String,
    /// For sending and for receiving.
    buckets: Option<[Bucket; 2]>,
    /// Bytes of this sync.
    used: u64,
    /// Whether bytes are counted ahead.
    ahead: bool,
    /// Whether the account may be written.
    kept: bool,
    slice: u64,
    sliced_at: Duration,
    pub(super) stop: Option<Stop>,
    /// There was nothing left to do.
    pub(super) caught_up: bool,
    /// The session is at its end: what is still to be said is not slowed down.
    pub(super) released: bool,
    /// The account could not be written.
    failed: Option<Error>,
    /// Since the budget ended: when something was acknowledged last, and how much was then.
    pub(super) acknowledged: Option<(Duration, u64)>,
    /// When the present connection's session began, and what had been used by then.
    opened: Option<(Duration, u64)>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("budget", &self.0.borrow().budget).finish_non_exhaustive()
    }
}

impl Meter {
    /// Begins a sync of `dir`, whose lock the caller holds.
    ///
    /// # Errors
    /// [`Code::Budget`] or [`Code::Window`] if it may not begin now; [`Code::BadArgument`] for a budget with
    /// which none ever could. Where there is a budget of the day, those of reading the account.
    pub(crate) fn begin(dir: &DataDir, budget: &Budget, urgent: bool) -> Result<Self> {
        let meter = Self::new(dir, budget, Box::new(Look::now), boot_id())?;
        // What time has passed, and what a doubt has cost, is not to be forgotten.
        meter.ready(urgent).inspect_err(|_| meter.with(|m| m.save()))?;
        Ok(meter)
    }

    /// One with other clocks, perhaps for a sync that may not begin. Writes nothing.
    pub(super) fn new(dir: &DataDir, budget: &Budget, clock: Clock, boot: String) -> Result<Self> {
        check(budget)?;
        let now = clock();
        let (mut account, kept) = match Account::load(dir) {
            Ok(found) => (found.unwrap_or_default(), true),
            Err(e) => match budget.day_bytes {
                Some(day_bytes) if e.code == Code::Config => {
                    log::warn!("{e}; today's budget counts as used");
                    (Account::doubtful(&now, &boot, day_bytes), true)
                }
                Some(_) => return Err(e),
                None => (Account::default(), e.code == Code::Config),
            },
        };
        account.look(&now, &boot);
        account.day_bytes = budget.day_bytes.or(account.day_bytes);
        let ahead = kept && account.day_bytes.is_some();
        let buckets = budget.bytes_per_s.map(|rate| [Bucket::new(rate, now.up); 2]);
        if !budget.windows.is_empty() && !now.is_set() {
            log::warn!("the clock is not set: the windows {} are not looked at", budget.windows);
        }
        Ok(Self(Rc::new(RefCell::new(Inner {
            budget: *budget,
            dir: dir.clone(),
            account,
            clock,
            boot,
            buckets,
            used: 0,
            ahead,
            kept,
            slice: 0,
            sliced_at: now.up,
            stop: None,
            caught_up: false,
            released: false,
            failed: None,
            acknowledged: None,
            opened: None,
        }))))
    }

    /// Whether a connection may be made now. `urgent`: there are urgent events to send.
    ///
    /// # Errors
    /// [`Code::Budget`] or [`Code::Window`] if not, saying when.
    pub(crate) fn ready(&self, urgent: bool) -> Result<()> {
        self.with(|m| {
            let now = (m.clock)();
            let stop = match m.is_shut(&now) {
                true => Stop::Window,
                false if m.left_for(urgent) < SESSION_MIN_BYTES => m.tightest(),
                false => return Ok(()),
            };
            Err(Error::new(stop.code(), m.sentence(stop)))
        })
    }

    /// What the last sync has shown of the link, and how many bytes may pass; `None` if there is no limit.
    pub(super) fn known(&self) -> (Measured, Option<u64>) {
        self.with(|m| (m.account.link, Some(m.left_for(false)).filter(|left| *left < u64::MAX)))
    }

    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.borrow_mut())
    }

    /// Whether anything may pass at all.
    ///
    /// # Errors
    /// [`Code::Budget`] if not a byte may; and those of keeping the account.
    pub(crate) fn check(&self, hub: &str) -> Result<()> {
        self.with(|m| {
            if let Some(e) = m.failed.take() {
                return Err(e);
            }
            if m.left() > 0 {
                return Ok(());
            }
            let tightest = m.tightest();
            Err(Error::new(m.stop.get_or_insert(tightest).code(), hub))
        })
    }

    /// How many of `want` bytes may pass now; counted ahead where bytes are.
    pub(crate) fn allow(&self, way: Way, want: usize) -> usize {
        self.with(|m| m.allow(way, want as u64) as usize)
    }

    /// So many bytes have passed.
    pub(crate) fn spend(&self, way: Way, bytes: u64) {
        self.with(|m| m.spend(way, bytes));
    }

    /// Whether there is an end to the bytes of this session.
    pub(crate) fn is_limited(&self) -> bool {
        self.with(|m| m.left_for(true)) < u64::MAX
    }

    /// Whether it makes sense to wait for the socket in this direction.
    pub(crate) fn is_open(&self, way: Way) -> bool {
        self.with(|m| m.wait(way).is_zero())
    }

    /// Waits no longer than this: then the rate lets something through again.
    pub(crate) fn at_most(&self, time: Option<Duration>) -> Option<Duration> {
        let wait =
            self.with(|m| [Way::Up, Way::Down].map(|way| m.wait(way)).into_iter().filter(|w| !w.is_zero()).min());
        match (time, wait) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// A TCP connection is there, after `took`.
    pub(crate) fn connected(&self, took: Duration) {
        self.with(|m| {
            m.account.link.rtt_ms = Some((took.as_millis() as u64).max(1));
        });
    }

    /// Its TLS handshake is done, and a session begins.
    pub(crate) fn opened(&self) {
        self.with(|m| {
            m.opened = Some(((m.clock)().up, m.used));
            (m.caught_up, m.released, m.acknowledged) = (false, false, None);
        });
    }

    /// Nothing is left to be done in the session, for now.
    pub(crate) fn caught_up(&self) {
        self.with(|m| m.caught_up = true);
    }

    /// The sync is over: gives back what was reserved, and says more of an end that was the budget's.
    ///
    /// # Errors
    /// The outcome's.
    pub(crate) fn end(&self, outcome: Result<()>) -> Result<()> {
        self.with(|m| {
            m.measure();
            m.account.give_back();
            if m.used > 0 || m.account.day_bytes.is_some() {
                m.save();
            }
            outcome.map_err(|e| match m.stop {
                Some(stop) if e.code == stop.code() => {
                    Error::new(e.code, format!("{}: {}", e.context, m.sentence(stop)))
                }
                _ => e,
            })
        })
    }
}

fn check(budget: &Budget) -> Result<()> {
    for bytes in [budget.session_bytes, budget.day_bytes].into_iter().flatten() {
        if bytes < SESSION_MIN_BYTES {
            let what = format!("a budget of {bytes} bytes: a connection alone costs up to {SESSION_MIN_BYTES}");
            return Err(Error::new(Code::BadArgument, what));
        }
    }
    match budget.bytes_per_s {
        Some(rate) if rate < RATE_MIN_BYTES_PER_S => {
            let what = format!("{rate} bytes a second; below {RATE_MIN_BYTES_PER_S} a hub takes the link for dead");
            Err(Error::new(Code::BadArgument, what))
        }
        _ => Ok(()),
    }
}

impl Inner {
    fn is_shut(&self, now: &Look) -> bool {
        now.is_set() && self.budget.windows.opens_in_min(now.wall_s) > 0
    }

    pub(super) fn session_left(&self) -> u64 {
        self.budget.session_bytes.map_or(u64::MAX, |all| all.saturating_sub(self.used))
    }

    pub(super) fn day_left(&self) -> u64 {
        self.budget.day_bytes.map_or(u64::MAX, |all| self.account.left_of(all))
    }

    /// Bytes that may still pass, for whatever it is.
    pub(super) fn left(&self) -> u64 {
        self.left_for(true)
    }

    fn left_for(&self, urgent: bool) -> u64 {
        let more = if urgent { self.budget.urgent_bytes } else { 0 };
        let day = self.budget.day_bytes.map_or(u64::MAX, |all| self.account.left_of(all.saturating_add(more)));
        self.session_left().min(day)
    }

    fn tightest(&self) -> Stop {
        if self.day_left() <= self.session_left() { Stop::Day } else { Stop::Session }
    }

    fn allow(&mut self, way: Way, want: u64) -> u64 {
        let now = (self.clock)();
        self.account.look(&now, &self.boot);
        let mut n = want.min(self.left());
        if let Some(buckets) = &mut self.buckets
            && !self.released
        {
            n = buckets[way as usize].allow(n, now.up);
        }
        if n == 0 || !self.ahead {
            return n;
        }
        if self.account.reserved() == 0 {
            self.reserve(&now);
        }
        if self.ahead { n.min(self.account.reserved()) } else { n }
    }

    fn reserve(&mut self, now: &Look) {
        self.slice = next_slice(self.slice, now.up.saturating_sub(self.sliced_at));
        self.sliced_at = now.up;
        match self.account.reserve(&self.dir, self.slice.min(self.left())) {
            Ok(()) => {}
            Err(e) if self.budget.day_bytes.is_some() => self.failed = Some(e),
            // Nobody asked for it just now; a card that cannot be written any more is to be sent away.
            Err(e) => {
                log::debug!("{e}");
                self.ahead = false;
            }
        }
    }

    fn spend(&mut self, way: Way, bytes: u64) {
        self.used += bytes;
        if let Some(buckets) = &mut self.buckets {
            buckets[way as usize].take(bytes);
        }
        match way {
            Way::Up => self.account.spend(bytes, 0),
            Way::Down => self.account.spend(0, bytes),
        }
    }

    fn wait(&mut self, way: Way) -> Duration {
        let now = (self.clock)().up;
        match &mut self.buckets {
            Some(buckets) if !self.released => buckets[way as usize].wait(now),
            _ => Duration::ZERO,
        }
    }

    /// Room for the events of one batch, in bytes before compression; `None` if there may be no more batches.
    /// `coming`: what the peer may send meanwhile.
    pub(super) fn room(&mut self, urgent: bool, coming: u64) -> Option<u64> {
        let now = (self.clock)();
        if self.is_shut(&now) {
            self.stop.get_or_insert(Stop::Window);
        }
        let room = self.left_for(urgent).saturating_sub(RESERVE_BYTES + coming);
        if room < BATCH_MIN_BYTES + FRAME_SLACK_BYTES {
            self.stop.get_or_insert(self.tightest());
        }
        // There is more, whatever was said before.
        self.caught_up &= self.stop.is_none();
        // What cannot be compressed must fit too.
        self.stop.is_none().then(|| room - FRAME_SLACK_BYTES - room / 512)
    }

    /// Sends no more batches: the next event needs `bytes`. It is to blame only where nothing was sent.
    pub(super) fn stop_before(&mut self, bytes: u64, sent: u64) {
        let stop = if sent == 0 { Stop::Event(bytes) } else { self.tightest() };
        self.stop.get_or_insert(stop);
        self.caught_up = false;
    }

    /// Whether nothing more was acknowledged for this long, since the budget ended.
    pub(super) fn waited_in_vain(&mut self, acknowledged: u64, limit: Duration) -> bool {
        let now = (self.clock)().up;
        match self.acknowledged {
            Some((since, before)) if before == acknowledged => now.saturating_sub(since) > limit,
            _ => {
                self.acknowledged = Some((now, acknowledged));
                false
            }
        }
    }

    /// Looks whether the session must end though it has nothing to send. `coming` as in
    /// [`room`](Inner::room).
    pub(super) fn look(&mut self, coming: u64) {
        if !self.caught_up && self.stop.is_none() {
            let now = (self.clock)();
            if self.is_shut(&now) {
                self.stop = Some(Stop::Window);
            } else if coming > 0 && self.left_for(false) <= RESERVE_BYTES + coming {
                self.stop = Some(self.tightest());
            }
        }
    }

    fn measure(&mut self) {
        let Some((at, used)) = self.opened else { return };
        let (bytes, ms) = (self.used - used, ((self.clock)().up.saturating_sub(at)).as_millis() as u64);
        if bytes >= TELLING_BYTES && self.buckets.is_none() {
            self.account.link.bytes_per_s = Some((bytes * 1000 / ms.max(1)).max(1));
        }
    }

    pub(super) fn save(&self) {
        if !self.kept {
            return;
        }
        if let Err(e) = self.account.save(&self.dir) {
            log::log!(if self.ahead { log::Level::Warn } else { log::Level::Debug }, "{e}");
        }
    }
}

/// The slice after one that lasted `took`.
fn next_slice(slice: u64, took: Duration) -> u64 {
    match took.as_millis() {
        _ if slice == 0 => SLICE_MIN_BYTES,
        0..250 => (slice * 4).min(SLICE_MAX_BYTES),
        250..5_000 => slice,
        _ => SLICE_MIN_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_small_on_a_slow_link_and_larger_on_a_fast_one() {
        let s = Duration::from_secs;
        assert_eq!(next_slice(0, Duration::ZERO), 16 << 10);
        assert_eq!(next_slice(SLICE_MIN_BYTES, s(6)), 16 << 10);
        assert_eq!(next_slice(SLICE_MIN_BYTES, s(2)), 16 << 10);
        assert_eq!(next_slice(SLICE_MIN_BYTES, Duration::ZERO), 64 << 10);
        assert_eq!(next_slice(SLICE_MAX_BYTES, Duration::ZERO), 1 << 20);
        assert_eq!(next_slice(SLICE_MAX_BYTES, s(30)), 16 << 10);
    }
}
