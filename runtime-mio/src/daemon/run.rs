//! The event loop.

use std::time::{Duration, Instant};

use mio::{Events, Token};
use ropeway_core::code::Code;
use ropeway_core::event::Records;
use ropeway_core::node::{Effect, EndedBy, Event, Flow, ReadFault, SessionId, Transmit};
use ropeway_std::{Error, Result};

use super::conn::Fill;
use super::disk::{Done, Job};
use super::{Daemon, FIRST_CONN, LISTENER, WAKER};

/// Reads from one socket in one turn, so that a fast peer does not keep the others waiting.
const READS_PER_TURN: usize = 16;
/// The longest sleep: strangers' deadlines are looked at that often.
const NAP_MAX: Duration = Duration::from_secs(1);

impl Daemon {
    /// Serves until it is stopped. Everything acknowledged is durable at any instant, so a crash
    /// loses no more than a stop does; a stop is only more polite.
    ///
    /// # Errors
    /// [`Code::Io`] if the system's event queue fails.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.work();
            if self.is_done() {
                return Ok(());
            }
            match self.poll.poll(&mut events, Some(self.nap())) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(Error::io("poll", e)),
                _ => {}
            }
            let unread = std::mem::take(&mut self.unread);
            for c in unread {
                self.read(c);
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept(),
                    WAKER => {}
                    Token(t) => {
                        let c = t - FIRST_CONN;
                        if event.is_writable() {
                            self.write(c);
                        }
                        if event.is_readable() || event.is_read_closed() || event.is_error() {
                            self.read(c);
                        }
                    }
                }
            }
            if self.stop.stop.load(std::sync::atomic::Ordering::Relaxed) && self.stopping.is_none() {
                self.begin_stop();
            }
            self.sweep();
        }
    }

    fn nap(&self) -> Duration {
        if !self.unread.is_empty() {
            return Duration::ZERO;
        }
        let at = self.node.poll_timeout().map(|(at, _)| Duration::from_millis(at.ms_since(self.clock.now().at)));
        at.map_or(NAP_MAX, |d| d.min(NAP_MAX))
    }

    /// Everything that needs no socket to become ready: until there is nothing more of it.
    fn work(&mut self) {
        self.node.timeout(self.clock.now());
        loop {
            let mut idle = true;
            while let Some(done) = self.disk.poll_done() {
                idle = false;
                self.disk_done(done);
            }
            while let Some(note) = self.book.poll(&mut self.node, self.clock.now()) {
                idle = false;
                self.disk.push(Job::Learn { note });
            }
            if self.asks.poll(&self.node) {
                self.disk.push(Job::Ask { left: self.asks.clone() });
            }
            while let Some(job) = self.next_job() {
                idle = false;
                self.disk.push(job);
            }
            while let Some(id) = self.node.poll_resumed() {
                idle = false;
                if let Some(c) = self.conn_of(id) {
                    if let Some(conn) = self.conns[c].as_mut() {
                        conn.paused = false;
                    }
                    self.read(c);
                }
            }
            while let Some(id) = self.node.poll_ready() {
                idle = false;
                if let Some(c) = self.conn_of(id) {
                    self.write(c);
                }
            }
            while let Some(event) = self.node.poll_event() {
                idle = false;
                self.tell(event);
            }
            if idle {
                return;
            }
        }
    }

    fn next_job(&mut self) -> Option<Job> {
        let upto = match self.node.poll_effect(self.clock.now())? {
            Effect::Provision { segment } => return Some(Job::Provision { segment }),
            Effect::Read(request) => return Some(Job::Read { request }),
            Effect::Append { at, bytes, .. } => return Some(Job::Append { at, bytes: bytes.to_vec() }),
            Effect::Sync { upto } => upto,
        };
        Some(Job::Sync { upto, runs: self.node.runs_in_flight().collect() })
    }

    fn disk_done(&mut self, done: Done) {
        match done {
            Done::Log(completion) => self.node.complete(self.clock.now(), completion),
            Done::Expired(gone) => gone.iter().for_each(|(key, seq, chain)| self.node.expired(key, *seq, *chain)),
            Done::Found { found } => {
                let streams = self.node.streams().collect();
                self.disk.push(Job::Assess { found, streams });
            }
            Done::Cost { damage, digest, cost } => {
                self.book.found(&mut self.node, self.clock.now(), (&damage, digest), cost.as_deref());
            }
            Done::Read { request, chain, records } => {
                let records = chain
                    .map(|prev_chain| Records { first_seq: request.from_seq, prev_chain, bytes: &records })
                    .map_err(ReadFault);
                let packed = self.node.complete_read(self.clock.now(), &request, records, &mut self.out);
                let Some(c) = self.conn_of(request.session) else { return };
                if let Transmit::Bytes(n) = packed
                    && let Some(conn) = self.conns[c].as_mut()
                    && let Err(e) = conn.send(&self.out[..n])
                {
                    log::debug!("{}: {e}", conn.address);
                    self.drop_conn(c);
                    return;
                }
                self.write(c);
            }
        }
    }

    fn conn_of(&self, id: SessionId) -> Option<usize> {
        let c = *self.of_session.get(id.index())?;
        self.conns.get(c)?.as_ref().filter(|k| k.session == Some(id)).map(|_| c)
    }

    /// Takes in what a socket has, up to a turn's worth.
    fn read(&mut self, c: usize) {
        for _ in 0..READS_PER_TURN {
            if !self.deliver(c) {
                return;
            }
            let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return };
            match conn.fill() {
                Ok(Fill::Some) => {}
                Ok(Fill::Empty) => return self.write(c),
                Ok(Fill::Eof) => {
                    if conn.session.is_none() {
                        return self.refuse(c, Code::Cut, "closed before the handshake was done");
                    }
                    return self.drop_conn(c);
                }
                Err(e) => {
                    log::debug!("{}: {e}", conn.address);
                    if conn.session.is_none() {
                        return self.refuse(c, Code::Cut, &e.to_string());
                    }
                    return self.drop_conn(c);
                }
            }
            if let Err(e) = conn.tls.process() {
                let _ = conn.flush();
                if conn.session.is_none() {
                    return self.refuse(c, e.code, &e.context);
                }
                log::warn!("{} {}: {}", e.code, conn.address, e.context);
                return self.drop_conn(c);
            }
            self.greet(c);
        }
        self.unread.push(c);
    }

    /// Hands decrypted bytes to the session; false if reading should stop.
    fn deliver(&mut self, c: usize) -> bool {
        loop {
            let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return false };
            let Some(session) = conn.session else { return true };
            if conn.closing && !conn.proven {
                // Nobody hears it any more, but the handshake has to end before the connection can.
                return true;
            }
            if conn.paused || conn.closing {
                return false;
            }
            let bytes = conn.waiting(&mut self.plain);
            if bytes.is_empty() {
                return true;
            }
            let Ok(got) = self.node.receive(self.clock.now(), session, &self.plain[bytes.clone()]) else {
                // Over, but its last frame may still be on the way out.
                return false;
            };
            if got.flow == Flow::Closed {
                return false;
            }
            if got.flow == Flow::Paused {
                conn.hold(&self.plain[bytes.start + got.consumed..bytes.end]);
                conn.paused = true;
                return false;
            }
        }
    }

    /// Sends what there is to send while the socket takes it.
    pub(super) fn write(&mut self, c: usize) {
        // Frames that come one after the other share a record, so they are not flushed one by one; and the handshake's
        // last words wait for the session's first ones: one packet instead of two.
        let (mut is_all, mut together) = (false, true);
        loop {
            let Some(conn) = self.conns.get(c).and_then(Option::as_ref) else { return };
            let waits = std::mem::take(&mut together) && conn.may_wait();
            if (is_all || conn.closing || conn.tls.has_records()) && !waits && !self.flush(c) {
                return;
            }
            let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return };
            if conn.closing {
                // Whoever closes before the handshake has ended takes the last words back from the peer.
                if conn.proven {
                    self.drop_conn(c);
                }
                return;
            }
            let Some(session) = conn.session.filter(|_| !is_all) else { return };
            match self.node.poll_transmit(self.clock.now(), session, &mut self.out) {
                Ok(Transmit::Bytes(n)) => {
                    if let Err(e) = conn.send(&self.out[..n]) {
                        log::debug!("{}: {e}", conn.address);
                        return self.drop_conn(c);
                    }
                }
                Ok(Transmit::Read(request)) => {
                    self.disk.push(Job::Read { request });
                    is_all = true;
                }
                Ok(Transmit::Idle) => is_all = true,
                Ok(Transmit::Close) | Err(_) => conn.closing = true,
            }
        }
    }

    /// Gives the socket what waits for it; true if nothing is left. A connection that is lost is gone then.
    fn flush(&mut self, c: usize) -> bool {
        let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return false };
        match conn.flush() {
            Ok(empty) => empty,
            Err(e) => {
                log::debug!("{}: {e}", conn.address);
                if conn.session.is_none() {
                    self.refuse(c, Code::Cut, "")
                } else {
                    self.drop_conn(c)
                }
                false
            }
        }
    }

    /// Forgets a connection; its session learns of it.
    fn drop_conn(&mut self, c: usize) {
        let Some(mut conn) = self.conns.get_mut(c).and_then(Option::take) else { return };
        let _ = self.poll.registry().deregister(&mut conn.socket);
        self.free.push(c);
        if !conn.proven {
            self.strangers -= 1;
        }
        if let Some(session) = conn.session {
            self.node.close(self.clock.now(), session);
        }
    }

    fn tell(&mut self, event: Event) {
        match event {
            Event::CaughtUp { .. } => self.book.poke(),
            Event::Closed { session, ending, stats } => {
                let from = self.conn_of(session).and_then(|c| self.conns[c].as_ref()).map(|k| k.address.to_string());
                let who = from.unwrap_or_else(|| format!("session {}", session.index()));
                let did = format!(
                    "{} events received, {} sent, {} bytes in, {} out",
                    stats.received, stats.sent, stats.bytes_in, stats.bytes_out
                );
                if stats.sample_differs {
                    log::info!("{} {who}: its base sample is another one", Code::SampleDiffers);
                }
                match (ending.code, ending.by) {
                    (None, _) => log::info!("{who}: done; {did}"),
                    // The peer's own affair.
                    (Some(code @ (Code::Budget | Code::Window)), EndedBy::Peer) => log::info!("{code} {who}: {did}"),
                    (Some(code), EndedBy::Us) => log::warn!("{code} {who}: closed; {did}"),
                    (Some(code), EndedBy::Peer) => log::warn!("{code} {who}: the peer closed; {did}"),
                    (Some(code), EndedBy::Transport) => log::info!("{code} {who}: {did}"),
                }
            }
            Event::Fork { stream } => log::error!("{} {stream}: {}", Code::Fork, Code::Fork.hint()),
            Event::TailLost { stream } => log::warn!("{} {stream}", Code::TailLost),
            Event::Withheld(events) => log::warn!("{events}"),
            Event::StorageFailed { code } => log::error!("{code}: {}", code.hint()),
        }
    }

    /// Takes no more connections and tells every peer.
    fn begin_stop(&mut self) {
        log::info!("stopping");
        self.stopping = Some(Instant::now());
        if let Some(mut listener) = self.listener.take() {
            let _ = self.poll.registry().deregister(&mut listener);
        }
        for c in 0..self.conns.len() {
            match self.conns[c].as_ref().map(|k| k.session) {
                Some(Some(session)) => self.node.abort(self.clock.now(), session, Code::Stopping),
                Some(None) => self.refuse(c, Code::Stopping, "stopping"),
                None => {}
            }
        }
    }

    fn is_done(&self) -> bool {
        let Some(since) = self.stopping else { return false };
        let settled = self.node.durable_group() >= self.node.last_group() || self.node.storage_failed().is_some();
        let quiet = self.conns.iter().all(Option::is_none) && settled;
        quiet || since.elapsed() > self.options.grace
    }
}
