//! One connection between a clinic and a hub in virtual time: real nodes with real logs, real mutual TLS, and a
//! [`Way`] in each direction. It does what the client (`ropeway_std::client`) and the daemon (`ropeway_mio::daemon`)
//! do with a socket, frame by frame and record by record; where those change, this must follow. The table
//! `runtimes` shows whether it does.

use std::io::{self, Write};
use std::time::Duration;

use ropeway_core::node::{Ending, Event, Flow, SessionId, Transmit};
use ropeway_std::DataDir;
use ropeway_std::tls::{Client, Conn, Server, TlsOptions};

use super::NAME;
use super::air::{Air, Way};
use super::host::{CLOCK, Host, Packing, now};
use crate::{Result, cpu};

/// The end that dials.
pub(crate) const CLINIC: usize = 0;
/// The other.
pub(crate) const HUB: usize = 1;
/// Longer than any sync takes, in microseconds of virtual time.
const PATIENCE_US: u64 = 48 * 3_600 * 1_000_000;

/// A clinic and its hub, with what their processes keep between connections.
pub(crate) struct Pair {
    pub(crate) hosts: [Host; 2],
    client: Client,
    server: Server,
    early_data: bool,
    /// Virtual time, in microseconds.
    pub(crate) now_us: u64,
}

impl Pair {
    /// Two nodes that run from now on.
    pub(crate) fn new(clinic: Host, hub: Host, now_us: u64) -> Result<Self> {
        let options = TlsOptions { clock: CLOCK, ..TlsOptions::default() };
        let (client, server) = (Client::new(&clinic.identity, &options)?, Server::new(&hub.identity, &options)?);
        Ok(Self { hosts: [clinic, hub], client, server, early_data: false, now_us })
    }

    /// Opens both nodes.
    pub(crate) fn open(clinic: &DataDir, hub: &DataDir, packing: Packing) -> Result<Self> {
        Self::new(Host::open_packing(clinic, 0, packing)?, Host::open(hub, 0)?, 0)
    }

    /// Events of the clinic that are durable at the hub.
    pub(crate) fn at_hub(&self) -> u64 {
        self.hosts[HUB].held(NAME).values().sum()
    }

    fn options(&self) -> TlsOptions {
        TlsOptions { clock: CLOCK, early_data: self.early_data, ..TlsOptions::default() }
    }

    /// The clinic's process starts again: it has no tickets.
    pub(crate) fn forget_tickets(&mut self) -> Result<()> {
        self.client = Client::new(&self.hosts[CLINIC].identity, &self.options())?;
        Ok(())
    }

    /// Both processes start again, with the option of early data; there are no tickets yet.
    pub(super) fn allow_early_data(&mut self) -> Result<()> {
        self.early_data = true;
        self.server = Server::new(&self.hosts[HUB].identity, &self.options())?;
        self.forget_tickets()
    }

    /// The clinic dials.
    pub(crate) fn dial(&mut self, air: Air) -> Result<Call<'_>> {
        let begun_us = self.now_us;
        let end = |mut conn: Conn| {
            conn.set_buffer_limit(None);
            let (session, plain, ended) = (None, Vec::new(), None);
            End {
                conn,
                session,
                proven: false,
                plain,
                paused: false,
                finishing: false,
                closing: false,
                over: false,
                ended,
            }
        };
        let (accepted, hub_cpu) = cpu::timed(|| self.server.accept());
        let mut ends = [end(self.client.connect("hub:7700")?), end(accepted?)];
        if let Some(hub) = ends[CLINIC].conn.speak_early() {
            let session = self.hosts[CLINIC].node.open(now(begun_us), hub).map_err(|e| e.code().to_string())?;
            ends[CLINIC].session = Some(session);
        }
        // Nothing leaves the clinic before SYN and SYN-ACK.
        let ways = [Way::new(air, begun_us + air.round_trip_us()), Way::new(air, begun_us)];
        Ok(Call {
            pair: self,
            air,
            ends,
            ways,
            begun_us,
            stays: false,
            caught_up: 0,
            batches: Vec::new(),
            frame_bytes: 0,
            hub_cpu,
        })
    }
}

/// A BATCH that the clinic has given to its socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// When it was made.
    pub(crate) us: u64,
    /// Where it begins in what the clinic has written to TCP.
    pub(crate) at: u64,
    /// The whole frame.
    pub(crate) bytes: usize,
    /// How many events the session has sent with it.
    pub(crate) sent: u64,
}

struct End {
    conn: Conn,
    session: Option<SessionId>,
    /// Its handshake has ended.
    proven: bool,
    /// Bytes that the node has not taken yet.
    plain: Vec<u8>,
    paused: bool,
    /// The node was asked to end the session.
    finishing: bool,
    /// The node wants the connection closed; the handshake has to end before.
    closing: bool,
    /// It is closed.
    over: bool,
    ended: Option<Ending>,
}

/// A connection.
pub(crate) struct Call<'p> {
    pub(crate) pair: &'p mut Pair,
    pub(crate) air: Air,
    ends: [End; 2],
    /// Up, and down.
    pub(crate) ways: [Way; 2],
    pub(crate) begun_us: u64,
    /// The clinic does not end the session when all is done.
    pub(crate) stays: bool,
    /// How often the clinic's session had nothing left to do.
    pub(crate) caught_up: u32,
    pub(crate) batches: Vec<Batch>,
    /// Bytes of frames that both nodes have given to TLS.
    pub(crate) frame_bytes: u64,
    /// What the hub's end took of a processor: TLS, node, codecs and log, but no sockets.
    pub(crate) hub_cpu: Duration,
}

impl Call<'_> {
    /// Bytes that the clinic and the hub have given to TCP.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.ways[0].bytes, self.ways[1].bytes]
    }

    /// Goes on until the clinic knows, once more, that the hub has all that it sent.
    pub(crate) fn until_caught_up(&mut self) -> Result<()> {
        let before = self.caught_up;
        self.until(|call| call.caught_up > before)
    }

    /// Whether the hub took early data.
    pub(super) fn is_early(&mut self) -> bool {
        self.ends[CLINIC].conn.is_early_accepted()
    }

    /// Whether the handshake used a ticket.
    pub(crate) fn is_resumed(&self) -> bool {
        self.ends[CLINIC].conn.is_resumed()
    }

    /// Round trips since `from_us`.
    pub(crate) fn round_trips(&self, from_us: u64) -> f64 {
        (self.pair.now_us - from_us) as f64 / self.air.round_trip_us() as f64
    }

    /// Goes on until both sides have left.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.stays = false;
        let (us, end) = (self.pair.now_us, &self.ends[CLINIC]);
        if let (Some(id), true) = (end.session, self.caught_up > 0) {
            self.pair.hosts[CLINIC].node.finish(now(us), id);
        }
        self.until(|call| call.ends.iter().all(|end| end.over))?;
        match self.ends.iter().find_map(|end| end.ended.and_then(|e| e.code)) {
            Some(code) => Err(format!("the sync ended: {code}").into()),
            None => Ok(()),
        }
    }

    /// Goes on until `done`, looked at after everything that happens.
    pub(crate) fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<()> {
        loop {
            while self.turn(CLINIC)? | self.turn(HUB)? {}
            if done(self) {
                return Ok(());
            }
            let next_us = self.next_us().filter(|at_us| *at_us < self.begun_us + PATIENCE_US);
            self.pair.now_us = next_us.ok_or("the two nodes wait for each other")?;
        }
    }

    /// Goes on to this moment of virtual time.
    pub(crate) fn until_us(&mut self, at_us: u64) -> Result<()> {
        loop {
            while self.turn(CLINIC)? | self.turn(HUB)? {}
            match self.next_us() {
                Some(next_us) if next_us <= at_us => self.pair.now_us = next_us,
                _ => break,
            }
        }
        self.pair.now_us = self.pair.now_us.max(at_us);
        Ok(())
    }

    /// The link breaks, and both sides learn of it.
    pub(crate) fn cut(mut self) -> Result<()> {
        for e in [CLINIC, HUB] {
            self.close(e)?;
        }
        Ok(())
    }

    fn close(&mut self, e: usize) -> Result<()> {
        let us = self.pair.now_us;
        self.hear(e)?;
        if let Some(id) = self.ends[e].session {
            self.pair.hosts[e].node.close(now(us), id);
        }
        self.hear(e)?;
        self.pair.hosts[e].drive(us)?;
        Ok(())
    }

    /// When something happens next by itself.
    fn next_us(&self) -> Option<u64> {
        let us = self.pair.now_us;
        let lands = self.ways.iter().filter_map(Way::next_us);
        let rooms = (0..2).filter(|&e| self.ends[e].conn.wants_write()).filter_map(|e| self.ways[e].room_at_us(us));
        let open = (0..2).filter(|&e| !self.ends[e].over);
        let timers = open.filter_map(|e| self.pair.hosts[e].node.poll_timeout()).map(|(at, _)| at.0 * 1_000);
        lands.chain(rooms).chain(timers).filter(|at_us| *at_us > us).min()
    }

    /// Lets one end do what it can; whether that was anything.
    fn turn(&mut self, e: usize) -> Result<bool> {
        let (moved, took) = cpu::timed(|| self.take_turn(e));
        if e == HUB {
            self.hub_cpu += took;
        }
        moved
    }

    fn take_turn(&mut self, e: usize) -> Result<bool> {
        let us = self.pair.now_us;
        if self.pair.hosts[e].node.poll_timeout().is_some_and(|(at, _)| at <= now(us).at) {
            self.pair.hosts[e].node.timeout(now(us));
        }
        let mut moved = self.take_in(e)?;
        moved |= self.greet(e)?;
        moved |= self.pair.hosts[e].drive(us)?;
        moved |= self.deliver(e);
        moved |= self.pair.hosts[e].drive(us)?;
        moved |= self.send(e)?;
        moved |= self.hear(e)?;
        Ok(moved)
    }

    /// Gives TLS what has landed.
    fn take_in(&mut self, e: usize) -> Result<bool> {
        let (us, end) = (self.pair.now_us, &mut self.ends[e]);
        let mut moved = false;
        while !end.paused
            && let Some(piece) = self.ways[1 - e].land(us)
        {
            moved = true;
            let mut rest = piece.as_slice();
            while !rest.is_empty() {
                end.conn.read_tls(&mut rest)?;
                end.conn.process()?;
                let mut plain = [0; 4096];
                while let Ok(n @ 1..) = end.conn.read_plain(&mut plain) {
                    end.plain.extend_from_slice(&plain[..n]);
                }
            }
        }
        Ok(moved)
    }

    /// The session begins when the handshake has ended, or with early data.
    fn greet(&mut self, e: usize) -> Result<bool> {
        let (us, host, end) = (self.pair.now_us, &mut self.pair.hosts[e], &mut self.ends[e]);
        if end.proven || end.over {
            return Ok(false);
        }
        if end.conn.is_handshaking() {
            let early = if e == HUB && end.session.is_none() { end.conn.early_peer()? } else { None };
            end.session = end.session.or(early.and_then(|peer| host.node.open_early(now(us), peer)));
            return Ok(early.is_some());
        }
        end.proven = true;
        let peer = end.conn.peer()?;
        match end.session {
            Some(id) => host.node.prove(now(us), id),
            None => end.session = Some(host.node.open(now(us), peer).map_err(|e| e.code().to_string())?),
        }
        Ok(true)
    }

    /// Hands decrypted bytes to the session.
    fn deliver(&mut self, e: usize) -> bool {
        let (us, host, end) = (self.pair.now_us, &mut self.pair.hosts[e], &mut self.ends[e]);
        let mut moved = false;
        while host.node.poll_resumed().is_some() {
            (end.paused, moved) = (false, true);
        }
        let mut early = [0; 4096];
        while let Some(n @ 1..) = end.session.and_then(|_| end.conn.read_plain(&mut early).ok()) {
            end.plain.extend_from_slice(&early[..n]);
        }
        let Some(id) = end.session.filter(|_| !end.paused && !end.plain.is_empty()) else { return moved };
        match host.node.receive(now(us), id, &end.plain) {
            Ok(got) => {
                end.plain.drain(..got.consumed);
                end.paused = got.flow == Flow::Paused;
                if got.flow == Flow::Closed {
                    end.plain.clear();
                }
            }
            Err(_) => end.plain.clear(),
        }
        true
    }

    /// Sends what there is to send while the socket takes it.
    fn send(&mut self, e: usize) -> Result<bool> {
        let us = self.pair.now_us;
        let mut moved = false;
        while self.pair.hosts[e].node.poll_ready().is_some() {}
        // Frames that come one after the other share a record, so they are not flushed one by one.
        let mut is_all = false;
        loop {
            let before = self.ways[e].bytes;
            if is_all || self.ends[e].session.is_none() || self.ends[e].conn.has_records() {
                self.flush(e)?;
            }
            moved |= self.ways[e].bytes > before;
            let (host, end) = (&mut self.pair.hosts[e], &mut self.ends[e]);
            if end.closing && !end.over && end.proven {
                end.over = true;
                self.close(e)?;
                return Ok(true);
            }
            let may = !end.over && !end.closing && !end.conn.has_records() && !end.conn.is_early_full() && !is_all;
            let Some(id) = end.session.filter(|_| may) else { return Ok(moved) };
            let next = match host.node.poll_transmit(now(us), id, &mut host.out) {
                Ok(Transmit::Read(request)) => {
                    let packed = host.answer(us, &request);
                    if let Transmit::Bytes(bytes) = packed
                        && e == CLINIC
                    {
                        let sent = host.node.stats(id).map_or(0, |s| s.sent);
                        self.batches.push(Batch { us, at: self.ways[e].bytes, bytes, sent });
                    }
                    // Idle here means that it was turned into something else to send.
                    if packed == Transmit::Idle {
                        continue;
                    }
                    packed
                }
                Ok(next) => next,
                Err(_) => Transmit::Close,
            };
            match next {
                Transmit::Bytes(n) => {
                    self.frame_bytes += n as u64;
                    end.conn.write_plain(&host.out[..n])?;
                }
                Transmit::Idle if e == CLINIC && !self.stays && host.node.has_nothing_to_send(id) && !end.finishing => {
                    end.finishing = true;
                    host.node.finish(now(us), id);
                }
                Transmit::Idle | Transmit::Read(_) => is_all = true,
                Transmit::Close => {
                    self.flush(e)?;
                    self.ends[e].closing = true;
                    moved = true;
                }
            }
        }
    }

    fn flush(&mut self, e: usize) -> Result<()> {
        let mut socket = Socket { way: &mut self.ways[e], us: self.pair.now_us };
        while self.ends[e].conn.wants_write() {
            match self.ends[e].conn.write_tls(&mut socket) {
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => break,
                Err(err) => return Err(err.into()),
            }
        }
        Ok(())
    }

    /// What the node has to tell.
    fn hear(&mut self, e: usize) -> Result<bool> {
        let (us, host, end) = (self.pair.now_us, &mut self.pair.hosts[e], &mut self.ends[e]);
        let mut moved = false;
        while let Some(event) = host.node.poll_event() {
            moved = true;
            match event {
                Event::CaughtUp { session, .. } => {
                    if e == CLINIC {
                        self.caught_up += 1;
                        if !self.stays {
                            host.node.finish(now(us), session);
                        }
                    }
                }
                Event::Closed { ending, .. } => {
                    // The last acknowledgement and the answer to our GOODBYE came together.
                    self.caught_up += u32::from(e == CLINIC && ending.code.is_none());
                    end.ended = end.ended.or(Some(ending));
                }
                Event::StorageFailed { code } => return Err(format!("the log: {code}").into()),
                Event::Fork { stream } | Event::TailLost { stream } => {
                    return Err(format!("{stream} is not what it was").into());
                }
                Event::Withheld(events) => return Err(events.to_string().into()),
            }
        }
        Ok(moved)
    }
}

struct Socket<'a> {
    way: &'a mut Way,
    us: u64,
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.way.write(self.us, bytes) {
            0 if !bytes.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
