//! Syncing with a hub over TLS, in the caller's thread, until everything is acknowledged.

use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use ropeway_core::node::{EndedBy, Ending, Event, Flow, SessionId, SessionStats, Transmit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;

use crate::budget::{Budget, Meter, Metered, Way};
use crate::error::{Error, Result};
use crate::keep::{Stay, TIDY_LIMIT, Turn};
use crate::local::LocalServer;
use crate::replica::{Replica, identity};
use crate::socket::tune;
use crate::tls::{Client, Conn, TlsOptions};

mod handshake;

/// How to sync.
#[derive(Clone, Copy, Debug)]
pub struct SyncOptions {
    /// How long the TCP connection may take to be made.
    pub connect_timeout_ms: u64,
    /// How long the TLS handshake may take; less if the connection was made quickly.
    pub handshake_timeout_ms: u64,
    /// How long everything together may take; `None` for as long as the hub is not silent.
    pub deadline_ms: Option<u64>,
    /// What it may use.
    pub budget: Budget,
}

impl Default for SyncOptions {
    /// Made for 2G, where one round trip may take seconds.
    fn default() -> Self {
        let budget = Budget::default();
        Self { connect_timeout_ms: 60_000, handshake_timeout_ms: 60_000, deadline_ms: None, budget }
    }
}

/// What a sync did, or has done so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SyncReport {
    /// The hub's name, from its certificate.
    pub hub: String,
    /// Events sent.
    pub sent: u64,
    /// New events received.
    pub received: u64,
    /// Events that the hub acknowledged as durable during this sync.
    pub acknowledged: u64,
    /// Events that the hub does not get, told one by one in the log's messages; what follows them it has.
    pub withheld: u64,
    /// Events that the hub did not send; what follows them is here.
    pub placed: u64,
    /// Events of this node that the hub held already at the start: where it resumed.
    pub resumed_at: u64,
    /// The hub has another base sample: see [`Code::SampleDiffers`].
    pub sample_differs: bool,
    /// Bytes sent, TLS included.
    pub wire_bytes_up: u64,
    /// Bytes received, TLS included.
    pub wire_bytes_down: u64,
    /// How long it took.
    pub seconds: f64,
}

/// Ways in which a sync that did not finish ended. The report tells how far it came.
#[derive(Debug)]
pub struct SyncError {
    /// Why.
    pub error: Error,
    /// How far.
    pub report: Box<SyncReport>,
}

impl std::fmt::Display for SyncError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for SyncError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

impl From<SyncError> for Error {
    fn from(e: SyncError) -> Self {
        e.error
    }
}

/// The largest time to sleep in one piece.
const NAP_MAX_MS: u64 = 1000;
/// Silence that is normal on 2G: nobody is given up for less.
pub(crate) const SILENCE: Duration = Duration::from_secs(15);
/// What the 1,250 bytes of a handshake take at 100 bytes a second.
const HANDSHAKE_BYTES_TIME: Duration = Duration::from_millis(12_500);
/// How long a sync that is done waits for somebody who is still pushing.
const PUSH_GRACE: Duration = Duration::from_secs(5);

/// Frames up to this size share a packet with what is ready before them.
const TOGETHER_MAX_BYTES: usize = 512;

impl Replica {
    /// Brings this node and a hub up to date with each other, both ways, and ends when everything
    /// is acknowledged as durable. What was acknowledged when the link is cut stays acknowledged:
    /// the next sync goes on there. `progress` is called often.
    ///
    /// # Errors
    /// [`SyncError`]: the code says what to do, the report how far it came. A connection that ends
    /// before everything was acknowledged is always an error.
    pub fn sync(
        &mut self,
        hub: &str,
        options: &SyncOptions,
        progress: impl FnMut(&SyncReport),
    ) -> std::result::Result<SyncReport, SyncError> {
        let start = Instant::now();
        let end = options.deadline_ms.and_then(|ms| start.checked_add(Duration::from_millis(ms)));
        let meter = match Meter::begin(&self.dir, &options.budget, self.is_urgent()) {
            Ok(meter) => meter,
            Err(error) => return Err(SyncError { error, report: Box::default() }),
        };
        let mut work = Work { start, end, meter: Some(meter.clone()), ..Work::new(progress) };
        let outcome = self.sync_inner(hub, options, &mut work, &meter);
        let outcome = meter.end(outcome);
        work.report.seconds = work.start.elapsed().as_secs_f64();
        match outcome {
            Ok(()) => Ok(work.report),
            Err(error) => Err(SyncError { error, report: Box::new(work.report) }),
        }
    }

    fn sync_inner(
        &mut self,
        hub: &str,
        options: &SyncOptions,
        work: &mut Work<'_, impl FnMut(&SyncReport)>,
        meter: &Meter,
    ) -> Result<()> {
        self.commit()?;
        let (id, file) = identity(&self.dir)?;
        if file.deployment != self.node().deployment {
            let deployment = file.deployment.map_or(0, |d| u64::from_be_bytes(d.0));
            self.node.set_deployment(deployment);
        }
        let client = Client::new(&id, &TlsOptions::default())?;
        meter.ready(self.is_urgent())?;
        let called = Instant::now();
        let socket = connect(hub, Duration::from_millis(options.connect_timeout_ms), work)?;
        meter.connected(called.elapsed());
        let mut link = Link::new(client.connect(hub)?, socket, meter.clone(), called.elapsed());
        let outcome = self.run(&mut link, hub, options, work);
        work.report.wire_bytes_up = link.up;
        work.report.wire_bytes_down = link.down;
        outcome
    }

    pub(crate) fn run(
        &mut self,
        link: &mut Link,
        hub: &str,
        options: &SyncOptions,
        work: &mut Work<'_, impl FnMut(&SyncReport)>,
    ) -> Result<()> {
        let session = self.meet(link, hub, options, work)?;
        link.meter.opened();
        let outcome = self.exchange(link, hub, session, work);
        link.meter.linger(&mut link.socket, &mut link.down);
        // What went out in the last turn counts too.
        work.tell(self.node.stats(session), link);
        self.leave(session);
        outcome
    }

    fn exchange(
        &mut self,
        link: &mut Link,
        hub: &str,
        session: SessionId,
        work: &mut Work<'_, impl FnMut(&SyncReport)>,
    ) -> Result<()> {
        let mut out = vec![0; self.node.limits().frame_bytes + 64];
        let mut plain = vec![0; 16 << 10];
        let mut held = 0..0;
        // The lock is ours for as long as the link takes; others push through us meanwhile.
        if work.stay.is_none() {
            work.local = LocalServer::listen(&self.dir);
        }
        let mut caught_up: Option<Instant> = None;
        loop {
            work.check_time(hub)?;
            self.mind_budget(&link.meter, session);
            self.serve_local(&mut work.local);
            // Bytes from the hub. What the node does not take now stays in `plain`.
            loop {
                if held.is_empty() {
                    let n = link.conn.read_plain(&mut plain).unwrap_or(0);
                    held = 0..n;
                }
                if held.is_empty() {
                    break;
                }
                let Ok(got) = self.node.receive(self.clock.now(), session, &plain[held.clone()]) else { break };
                held.start += got.consumed;
                self.drive();
                if got.flow != Flow::Open {
                    break;
                }
            }
            let closing = self.transmit(link, hub, session, &mut out, work)?;
            work.tell(self.node.stats(session), link);
            while let Some(event) = self.node.poll_event() {
                match event {
                    Event::CaughtUp { .. } => {
                        self.book.poke();
                        link.meter.caught_up();
                        let _ = caught_up.get_or_insert(Instant::now());
                        work.stay.iter_mut().for_each(|stay| stay.tell_caught_up());
                        work.tell(self.node.stats(session), link);
                    }
                    Event::Closed { ending, stats, .. } => {
                        work.tell(Some(stats), link);
                        work.stay.iter_mut().for_each(|stay| stay.ended(ending, &stats));
                        let _ = self.transmit(link, hub, session, &mut out, work);
                        return ended(hub, ending, &stats);
                    }
                    Event::Fork { stream } => log::error!("{}: {stream}", Code::Fork),
                    Event::TailLost { stream } => log::warn!("{}: {stream}", Code::TailLost),
                    Event::Withheld(events) => log::warn!("{events}"),
                    Event::StorageFailed { code } => return Err(Error::new(code, "the log")),
                }
            }
            // While somebody pushes there will be more to send; but nobody keeps a sync open for ever.
            // What came after our last word would not be sent, so it has to wait for the lock.
            let pushing = work.local.as_ref().is_some_and(LocalServer::is_busy);
            let done = caught_up.is_some_and(|since| !pushing || since.elapsed() > PUSH_GRACE);
            let turn = if done { Turn::Finish } else { Turn::GoOn };
            match work.stay.as_mut().map_or(turn, |stay| stay.turn()) {
                Turn::GoOn => {}
                Turn::Tidy => _ = self.maintain(TIDY_LIMIT),
                Turn::Finish => {
                    if let Some(local) = work.local.take() {
                        local.end(self);
                    }
                    self.node.finish(self.clock.now(), session);
                    caught_up = None;
                }
                Turn::Abort => {
                    self.node.abort(self.clock.now(), session, Code::Stopping);
                    continue;
                }
            }
            if closing || link.eof {
                return Err(Error::new(Code::Cut, hub));
            }
            // The disk has caught up while we were sending: what is held back can go on at once.
            let mut resumed = false;
            while self.node.poll_resumed().is_some() {
                resumed = true;
            }
            if resumed && !held.is_empty() {
                continue;
            }
            if !link.conn.wants_write() && held.is_empty() && self.node.poll_ready().is_some() {
                continue;
            }
            let nap = self.node.poll_timeout().map(|(at, _)| Duration::from_millis(at.ms_since(self.clock.now().at)));
            link.wait(work.at_most(nap), work.others())?;
            link.fill(hub)?;
            self.node.timeout(self.clock.now());
        }
    }

    /// Sends what there is to send while the socket takes it; true when the session wants the
    /// connection closed.
    fn transmit<P>(
        &mut self,
        link: &mut Link,
        hub: &str,
        session: SessionId,
        out: &mut [u8],
        work: &mut Work<'_, P>,
    ) -> Result<bool> {
        // The handshake's last words wait for the session's first ones: one packet instead of two. Not for a large frame.
        let mut together = !link.full;
        let closing = loop {
            if !together && link.conn.has_records() {
                link.flush(hub)?;
                if link.conn.wants_write() {
                    return Ok(false);
                }
            }
            if link.conn.is_early_full() {
                break false;
            }
            let now = self.clock.now();
            let next = match self.node.poll_transmit(now, session, out) {
                Ok(Transmit::Read(request)) => {
                    // What has left is what the budget knows of.
                    if link.meter.is_limited() && link.conn.has_records() {
                        link.flush(hub)?;
                    }
                    // Without room for it, it waits for the end of the session.
                    let Some(packed) = self.answer_within(&link.meter, now, request, out) else { break false };
                    // Idle here means that it was turned into something else to send.
                    if packed == Transmit::Idle {
                        continue;
                    }
                    packed
                }
                Ok(other) => other,
                Err(_) => break false,
            };
            match next {
                Transmit::Bytes(n) => {
                    together &= n <= TOGETHER_MAX_BYTES;
                    link.send(&out[..n])?;
                }
                // Nobody pushes, and all is on its way: our last word goes with it, in the same packet.
                Transmit::Idle if work.may_finish() && self.node.has_nothing_to_send(session) => {
                    if let Some(local) = work.local.take() {
                        local.end(self);
                    }
                    work.is_finishing = true;
                    self.node.finish(self.clock.now(), session);
                }
                Transmit::Idle | Transmit::Read(_) => break false,
                Transmit::Close => break true,
            }
        };
        link.flush(hub)?;
        Ok(closing)
    }
}

fn ended(hub: &str, ending: Ending, stats: &SessionStats) -> Result<()> {
    match ending {
        Ending { code: None, .. } if stats.blocked == 0 => Ok(()),
        Ending { code: None, .. } => Err(Error::new(
            Code::Corrupt,
            format!("{} streams could not be sent whole: run `ropeway verify`", stats.blocked),
        )),
        Ending { code: Some(code), by: EndedBy::Peer } => Err(Error::new(code, format!("{hub} ended the session"))),
        Ending { code: Some(code), .. } => Err(Error::new(code, hub)),
    }
}

pub(crate) struct Work<'a, P> {
    pub(crate) report: SyncReport,
    pub(crate) start: Instant,
    /// When it has to be over.
    end: Option<Instant>,
    progress: P,
    pub(crate) meter: Option<Meter>,
    /// Takes the events of others.
    pub(crate) local: Option<LocalServer>,
    /// The session does not end by itself.
    pub(crate) stay: Option<&'a mut Stay>,
    /// The node was asked to end the session.
    is_finishing: bool,
}

impl<P> Work<'_, P> {
    pub(crate) fn new(progress: P) -> Self {
        let (report, start) = (SyncReport::default(), Instant::now());
        Work { report, start, end: None, progress, meter: None, local: None, stay: None, is_finishing: false }
    }

    /// Whether the session may end when all is sent.
    fn may_finish(&self) -> bool {
        !self.is_finishing && self.stay.is_none() && !self.local.as_ref().is_some_and(LocalServer::is_busy)
    }

    /// Who else may have news, beside the hub.
    fn others(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let local = self.local.iter().flat_map(LocalServer::sockets);
        self.stay.iter().filter_map(|stay| stay.bell()).chain(local)
    }

    /// Not longer than the time that is left.
    fn at_most(&self, time: Option<Duration>) -> Option<Duration> {
        let left = self.end.map(|end| end.saturating_duration_since(Instant::now()));
        let left = self.stay.as_ref().and_then(|stay| stay.left()).or(left);
        match (time, left) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn check_time(&self, hub: &str) -> Result<()> {
        if let Some(meter) = &self.meter {
            meter.check(hub)?;
        }
        match self.end {
            Some(end) if Instant::now() >= end => {
                let s = end.saturating_duration_since(self.start).as_secs_f64();
                Err(Error::new(Code::Timeout, format!("{hub}: not done within {s} s")))
            }
            _ => Ok(()),
        }
    }
}

impl<P: FnMut(&SyncReport)> Work<'_, P> {
    fn tell(&mut self, stats: Option<SessionStats>, link: &Link) {
        if let Some(s) = stats {
            self.report.sent = s.sent;
            self.report.received = s.received;
            self.report.acknowledged = s.acknowledged;
            (self.report.withheld, self.report.placed) = (s.withheld, s.placed);
            self.report.resumed_at = s.resumed_at;
            self.report.sample_differs = s.sample_differs;
        }
        self.report.wire_bytes_up = link.up;
        self.report.wire_bytes_down = link.down;
        self.report.seconds = self.start.elapsed().as_secs_f64();
        (self.progress)(&self.report);
    }
}

pub(crate) fn connect<P>(hub: &str, timeout: Duration, work: &Work<'_, P>) -> Result<TcpStream> {
    let addresses = hub.to_socket_addrs().map_err(|e| {
        let code = if is_temporary(&e) { Code::Unreachable } else { Code::Address };
        Error::new(code, format!("looking up {hub}: {e}"))
    })?;
    let mut last = Error::new(Code::Address, format!("{hub}: no such host"));
    for address in addresses {
        work.check_time(hub)?;
        // Zero would be an error of its own.
        let timeout = work.at_most(Some(timeout)).unwrap_or(timeout).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(socket) => {
                let set = tune(&socket).and_then(|()| socket.set_nonblocking(true));
                set.map_err(|e| Error::new(Code::Io, format!("{hub}: {e}")))?;
                return Ok(socket);
            }
            Err(e) => last = Error::new(Code::Unreachable, format!("{hub}: {e}")),
        }
    }
    work.check_time(hub)?;
    Err(last)
}

/// Whether a look-up may succeed later: without a link no name can be looked up. The standard
/// library tells it by the C library's words only (glibc's and musl's EAI_AGAIN).
fn is_temporary(e: &io::Error) -> bool {
    let text = e.to_string();
    text.ends_with("Temporary failure in name resolution") || text.ends_with("Try again")
}

/// A TLS connection over its socket.
pub(crate) struct Link {
    pub(crate) conn: Conn,
    socket: TcpStream,
    meter: Meter,
    pub(crate) up: u64,
    pub(crate) down: u64,
    eof: bool,
    /// The socket has not taken everything.
    full: bool,
    /// How long it took to connect: one round trip, or more if a packet was lost.
    connecting: Duration,
}

impl Link {
    pub(crate) fn new(mut conn: Conn, socket: TcpStream, meter: Meter, connecting: Duration) -> Self {
        // What is written is bounded by one frame at a time; a smaller limit would split it.
        conn.set_buffer_limit(None);
        Self { conn, socket, meter, up: 0, down: 0, eof: false, full: false, connecting }
    }

    /// How long the handshake may take: its round trips, as long as they took to connect and with as
    /// much again for jitter, its bytes on a poor link, and a silence; not more than `most`.
    fn patience(&self, most: Duration) -> Duration {
        most.min(SILENCE + HANDSHAKE_BYTES_TIME + 8 * self.connecting)
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.conn.write_plain(bytes).map_err(|e| Error::new(Code::Tls, e.to_string()))
    }

    fn flush(&mut self, hub: &str) -> Result<()> {
        while self.conn.wants_write() {
            match self.conn.write_tls(&mut Metered::new(&mut self.socket, &mut self.up, &self.meter)) {
                Ok(_) => {}
                Err(e) if again(&e) => {
                    self.full = true;
                    return Ok(());
                }
                Err(e) => return Err(Error::new(Code::Cut, format!("{hub}: {e}"))),
            }
        }
        self.full = false;
        Ok(())
    }

    /// Takes in what has arrived.
    fn fill(&mut self, hub: &str) -> Result<()> {
        loop {
            match self.conn.read_tls(&mut Metered::new(&mut self.socket, &mut self.down, &self.meter)) {
                Ok(0) => {
                    self.eof = true;
                    return Ok(());
                }
                Ok(_) => {
                    if let Err(e) = self.conn.process() {
                        // The alert tells the other side why.
                        let _ = self.flush(hub);
                        return Err(Error::new(e.code, format!("{hub}: {}", e.context)));
                    }
                    if !self.conn.wants_read() {
                        return Ok(());
                    }
                }
                Err(e) if again(&e) => return Ok(()),
                Err(e) => return Err(Error::new(Code::Cut, format!("{hub}: {e}"))),
            }
        }
    }

    /// Sleeps until the socket has something for us or takes something, one of the others is
    /// readable, or the time is over.
    fn wait<'a>(&self, time: Option<Duration>, others: impl Iterator<Item = BorrowedFd<'a>>) -> Result<()> {
        let mut flags = PollFlags::empty();
        if self.conn.wants_read() && self.meter.is_open(Way::Down) {
            flags |= PollFlags::IN;
        }
        if self.conn.wants_write() && self.meter.is_open(Way::Up) {
            flags |= PollFlags::OUT;
        }
        let nap_ms = self.meter.at_most(time).map_or(NAP_MAX_MS, |t| (t.as_millis() as u64 + 1).min(NAP_MAX_MS));
        let nap = Timespec { tv_sec: (nap_ms / 1000) as i64, tv_nsec: (nap_ms % 1000 * 1_000_000) as _ };
        let mut fds = vec![PollFd::new(&self.socket, flags)];
        fds.extend(others.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        match poll(&mut fds, Some(&nap)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(Error::new(Code::Io, format!("poll: {e}"))),
        }
    }
}

fn again(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
