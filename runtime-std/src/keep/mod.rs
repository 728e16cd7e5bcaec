//! A clinic that stays connected: one session with the hub for as long as the link allows, a new
//! one after each loss, and the log open for whoever pushes all the while.
//!
//! Everything is done in the caller's thread but looking up and connecting. A session is the one of
//! [`Replica::sync`], without its end; the core's PINGs are its heartbeat. All sessions share one
//! TLS client, so that each resumes by the ticket of the last.

mod backoff;
mod dial;
mod mend;
mod stay;
mod stop;

use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::budget::{Budget, Meter};
use crate::client::{Link, SILENCE, SyncOptions, SyncReport, Work};
use crate::error::{Error, Result};
use crate::identity::NodeIdentity;
use crate::local::LocalServer;
use crate::machine::random;
use crate::replica::{Replica, identity};
use crate::socket::give_up_after;
use crate::tls::{Client, TlsOptions};

use backoff::Backoff;
use dial::Dial;
use mend::{Mend, mend};
pub(crate) use stay::{Stay, Turn};
pub use stop::Stop;

/// How to stay connected.
#[derive(Clone, Copy, Debug)]
pub struct KeepOptions {
    /// How each session is made. Its deadline and its budget are not used: a session lasts as long as the link.
    pub sync: SyncOptions,
    /// The pause after the first loss, in milliseconds; each one after it is twice as long.
    pub pause_min_ms: u64,
    /// The longest pause, in milliseconds, unless the hub asks for a longer one.
    pub pause_max_ms: u64,
    /// Whether a session that resumes sends its first events with its first packet, if the hub takes it: a round trip
    /// less, and a weaker promise (docs/decisions/0018-early-data-as-an-option.md).
    pub early_data: bool,
    /// How long the last session may take to get everything acknowledged when the end is asked for.
    pub grace_ms: u64,
}

impl Default for KeepOptions {
    /// One second to five minutes, five seconds for the end, and no early data.
    fn default() -> Self {
        let sync = SyncOptions::default();
        Self { sync, pause_min_ms: 1000, pause_max_ms: 300_000, early_data: false, grace_ms: 5000 }
    }
}

/// What happens while a node stays connected.
#[derive(Debug)]
pub enum KeepState<'a> {
    /// The hub is being called.
    Calling,
    /// A session has begun.
    Connected {
        /// The hub's name, from its certificate.
        hub: &'a str,
        /// The handshake used the ticket of an earlier session.
        resumed: bool,
        /// The hub took what was said before the handshake had ended.
        early: bool,
    },
    /// Everything that this node has is acknowledged as durable, and it has what the hub has.
    CaughtUp(&'a SyncReport),
    /// A session has ended, or none came to be.
    Ended {
        /// What it did.
        report: &'a SyncReport,
        /// Why it ended; `None` if both sides said so when everything was done.
        error: Option<&'a Error>,
    },
    /// The next call is after this pause.
    Waiting(Duration),
}

/// What was done in all sessions together.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct KeepReport {
    /// Sessions that began.
    pub sessions: u64,
    /// Handshakes that used a ticket.
    pub resumed: u64,
    /// Those of them in which the hub took early data.
    pub early: u64,
    /// Calls after which there was no session.
    pub failed: u64,
    /// Events sent.
    pub sent: u64,
    /// New events received.
    pub received: u64,
    /// Events that the hub acknowledged as durable.
    pub acknowledged: u64,
    /// Bytes sent, TLS included.
    pub wire_bytes_up: u64,
    /// Bytes received, TLS included.
    pub wire_bytes_down: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Time between two looks at what the log has left to tidy.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// How long one such look may take: the hub and pushers wait meanwhile.
pub(crate) const TIDY_LIMIT: Duration = Duration::from_millis(500);
/// An acknowledgement may take so many times as long as connecting took, beside the silence that is normal: queues
/// fill up.
const ROUND_TRIPS_MAX: u32 = 8;
/// The longest time to sleep in one piece.
const NAP_MAX: Duration = Duration::from_secs(60);

impl Replica {
    /// Stays connected to a hub until `stop` asks for the end: sends what is appended, by other
    /// processes too (they push through this one), takes what the hub has, and calls again after a
    /// loss, after pauses that double from one second to some minutes. `tell` hears what happens.
    ///
    /// When the end is asked for, the session gets the grace of the options to be acknowledged and
    /// to say GOODBYE; what is not acknowledged then is sent in the next session, whenever that is.
    ///
    /// # Errors
    /// Only what no further call would mend: a certificate that is refused or cannot be used, a
    /// fork, the own disk ([`Code::Storage`]), the configuration. An address that cannot be looked
    /// up ([`Code::Address`]) if it never could.
    pub fn keep(
        &mut self,
        hub: &str,
        options: &KeepOptions,
        stop: &Stop,
        tell: impl FnMut(&KeepState<'_>),
    ) -> Result<KeepReport> {
        let start = Instant::now();
        let local = LocalServer::listen(&self.dir);
        let backoff = Backoff::new(options.pause_min_ms, options.pause_max_ms);
        let mut keep = Keep {
            hub,
            options,
            stop,
            tell,
            local,
            backoff,
            client: None,
            total: KeepReport::default(),
            tidied: start,
        };
        let outcome = self.keep_on(&mut keep);
        if let Some(local) = keep.local.take() {
            local.end(self);
        }
        self.drive();
        keep.total.seconds = start.elapsed().as_secs_f64();
        outcome.map(|()| keep.total)
    }

    fn keep_on(&mut self, keep: &mut Keep<'_, impl FnMut(&KeepState<'_>)>) -> Result<()> {
        self.commit()?;
        while !keep.stop.is_asked() {
            (keep.tell)(&KeepState::Calling);
            let mut stay = Stay::new(keep.stop.clone(), Duration::from_millis(keep.options.grace_ms));
            let (report, outcome) = self.call(keep, &mut stay);
            if keep.stop.is_asked() && report.hub.is_empty() {
                return Ok(());
            }
            keep.count(&report);
            (keep.tell)(&KeepState::Ended { report: &report, error: outcome.as_ref().err() });
            let code = match outcome {
                // The hub has said GOODBYE of its own accord.
                Ok(()) => Code::Stopping,
                Err(e) => {
                    // An address that was good may be so again when the link is back.
                    let known = e.code == Code::Address && keep.total.sessions > 0;
                    if !known && mend(e.code, stay.ended_by) == Mend::Never {
                        return Err(e);
                    }
                    e.code
                }
            };
            if keep.stop.is_asked() {
                return Ok(());
            }
            match mend(code, stay.ended_by) {
                Mend::Late => keep.backoff.longest(),
                _ if report.acknowledged > 0 || report.received > 0 || stay.was_caught_up => keep.backoff.reset(),
                _ => {}
            }
            let chance = random()?;
            let chance = u32::from_le_bytes([chance[0], chance[1], chance[2], chance[3]]);
            let pause = keep.backoff.pause(chance, stay.retry_after_s);
            (keep.tell)(&KeepState::Waiting(pause));
            self.rest(keep, Instant::now() + pause)?;
        }
        Ok(())
    }

    /// One call: connects, shakes hands, and exchanges events until the link is lost or the end is
    /// asked for.
    fn call(&mut self, keep: &mut Keep<'_, impl FnMut(&KeepState<'_>)>, stay: &mut Stay) -> (SyncReport, Result<()>) {
        // What it uses counts for the day; a budget does not end it.
        let meter = match Meter::begin(&self.dir, &Budget::default(), true) {
            Ok(meter) => meter,
            Err(e) => return (SyncReport::default(), Err(e)),
        };
        let mut link = match self.reach(keep, &meter) {
            Ok(Some(link)) => link,
            Ok(None) => return (SyncReport::default(), Ok(())),
            Err(e) => return (SyncReport::default(), Err(e)),
        };
        let (notes, tell) = (stay.notes(), &mut keep.tell);
        let mut greeted = false;
        let mut work = Work::new(|report: &SyncReport| {
            if !greeted && !report.hub.is_empty() {
                greeted = true;
                let (resumed, early) = (notes.resumed.get(), notes.early.get());
                tell(&KeepState::Connected { hub: &report.hub, resumed, early });
            }
            if notes.caught_up.take() {
                tell(&KeepState::CaughtUp(report));
            }
        });
        (work.local, work.stay) = (keep.local.take(), Some(stay));
        let outcome = meter.end(self.run(&mut link, keep.hub, &keep.options.sync, &mut work));
        (work.report.wire_bytes_up, work.report.wire_bytes_down) = (link.up, link.down);
        work.report.seconds = work.start.elapsed().as_secs_f64();
        let Work { report, local, .. } = work;
        keep.local = local;
        keep.total.resumed += u64::from(link.conn.is_resumed());
        keep.total.early += u64::from(link.conn.is_early_accepted());
        (report, outcome)
    }

    /// A connection to the hub before its handshake; `None` if the end was asked for meanwhile.
    fn reach(&mut self, keep: &mut Keep<'_, impl FnMut(&KeepState<'_>)>, meter: &Meter) -> Result<Option<Link>> {
        let (id, file) = identity(&self.dir)?;
        self.node.set_deployment(file.deployment.map_or(0, |d| u64::from_be_bytes(d.0)));
        let client = keep.client(&id)?;
        let called = Instant::now();
        let dial = Dial::start(keep.hub, Duration::from_millis(keep.options.sync.connect_timeout_ms))?;
        let socket: TcpStream = loop {
            if let Some(outcome) = dial.poll() {
                break outcome?;
            }
            if keep.stop.is_asked() {
                return Ok(None);
            }
            self.attend(keep, Some(dial.fd()), NAP_MAX)?;
        };
        let connecting = called.elapsed();
        meter.connected(connecting);
        // A link that comes back with another address does not tell the connections that it had before. Only the
        // other machine's acknowledgements count here: a hub whose disk is slow is not given up.
        give_up_after(&socket, SILENCE + ROUND_TRIPS_MAX * connecting);
        Ok(Some(Link::new(client.connect(keep.hub)?, socket, meter.clone(), connecting)))
    }

    /// Waits, for pushers only, until this time or the end is asked for.
    fn rest(&mut self, keep: &mut Keep<'_, impl FnMut(&KeepState<'_>)>, until: Instant) -> Result<()> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || keep.stop.is_asked() {
                return Ok(());
            }
            if keep.tidied.elapsed() >= TIDY_EVERY {
                keep.tidied = Instant::now();
                self.maintain(TIDY_LIMIT);
            }
            self.attend(keep, None, left.min(NAP_MAX))?;
        }
    }

    /// Takes what pushers have sent, then sleeps until one of them, `other` or the end has news.
    fn attend(
        &mut self,
        keep: &mut Keep<'_, impl FnMut(&KeepState<'_>)>,
        other: Option<BorrowedFd<'_>>,
        time: Duration,
    ) -> Result<()> {
        self.serve_local(&mut keep.local);
        if let Some(code) = self.node.storage_failed() {
            return Err(Error::new(code, "the log"));
        }
        let fds = other.into_iter().chain([keep.stop.bell()]);
        doze(fds.chain(keep.local.iter().flat_map(LocalServer::sockets)), time)
    }

    /// Takes what pushers have sent, and has it written.
    pub(crate) fn serve_local(&mut self, local: &mut Option<LocalServer>) {
        if let Some(local) = local {
            local.serve(self);
        }
        self.drive();
    }
}

/// Sleeps until one of these is readable, or the time is over.
fn doze<'a>(fds: impl Iterator<Item = BorrowedFd<'a>>, time: Duration) -> Result<()> {
    let mut fds: Vec<_> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let ms = time.as_millis() as i64 + 1;
    let nap = Timespec { tv_sec: ms / 1000, tv_nsec: (ms % 1000 * 1_000_000) as _ };
    match poll(&mut fds, Some(&nap)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(e) => Err(Error::new(Code::Io, format!("poll: {e}"))),
    }
}

/// What outlives a session.
struct Keep<'a, T> {
    hub: &'a str,
    options: &'a KeepOptions,
    stop: &'a Stop,
    tell: T,
    local: Option<LocalServer>,
    backoff: Backoff,
    client: Option<(NodeIdentity, Client)>,
    total: KeepReport,
    tidied: Instant,
}

impl<T> Keep<'_, T> {
    /// The one TLS client, with its tickets; a new one when the certificates were replaced.
    fn client(&mut self, id: &NodeIdentity) -> Result<Client> {
        let same = |old: &NodeIdentity| old.key.cert == id.key.cert && old.ca == id.ca;
        if let Some((_, client)) = self.client.as_ref().filter(|(old, _)| same(old)) {
            return Ok(client.clone());
        }
        let options = TlsOptions { early_data: self.options.early_data, ..TlsOptions::default() };
        let client = Client::new(id, &options)?;
        self.client = Some((id.clone(), client.clone()));
        Ok(client)
    }

    fn count(&mut self, r: &SyncReport) {
        let t = &mut self.total;
        let begun = u64::from(!r.hub.is_empty());
        (t.sessions, t.failed) = (t.sessions + begun, t.failed + 1 - begun);
        (t.sent, t.received, t.acknowledged) =
            (t.sent + r.sent, t.received + r.received, t.acknowledged + r.acknowledged);
        t.wire_bytes_up += r.wire_bytes_up;
        t.wire_bytes_down += r.wire_bytes_down;
    }
}
