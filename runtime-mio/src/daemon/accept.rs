//! Strangers: connections whose peer is not known yet.

use std::time::Instant;

use mio::{Interest, Token};
use ropeway_core::code::Code;
use ropeway_core::node::refusal;
use ropeway_std::socket::tune;

use super::conn::Conn;
use super::{Daemon, FIRST_CONN, HANDSHAKE_MAX_BYTES, STRANGERS_MAX};

impl Daemon {
    /// Takes in all connections that wait. None of them can hold the others up: the handshake goes
    /// on in the event loop.
    pub(super) fn accept(&mut self) {
        loop {
            let Some(listener) = &self.listener else { return };
            let (socket, address) = match listener.accept() {
                Ok(pair) => pair,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    // Out of file descriptors, most likely: those who wait are taken later.
                    log::warn!("{} accept: {e}", Code::Overloaded);
                    return;
                }
            };
            if self.strangers >= STRANGERS_MAX {
                log::warn!("{} {address}: too many unfinished handshakes", Code::Overloaded);
                continue;
            }
            let _ = tune(&socket);
            match self.server.accept() {
                Ok(tls) => self.adopt(Conn::new(socket, address, tls)),
                Err(e) => log::error!("{address}: {e}"),
            }
        }
    }

    fn adopt(&mut self, mut conn: Conn) {
        let c = self.free.pop().unwrap_or(self.conns.len());
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(e) = self.poll.registry().register(&mut conn.socket, Token(FIRST_CONN + c), interest) {
            log::error!("{} {}: {e}", Code::Io, conn.address);
            self.free.push(c);
            return;
        }
        if c == self.conns.len() {
            self.conns.push(None);
        }
        self.conns[c] = Some(conn);
        self.strangers += 1;
    }

    /// Turns away strangers that take too long or send too much; looks once a second.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.swept).as_secs() < 1 || self.strangers == 0 {
            return;
        }
        self.swept = now;
        for c in 0..self.conns.len() {
            let late = self.conns[c]
                .as_ref()
                .is_some_and(|k| !k.proven && now.duration_since(k.since) > self.options.handshake_timeout);
            if late {
                self.refuse(c, Code::Timeout, "the TLS handshake took too long");
            }
        }
    }

    /// The handshake is done: who is it?
    pub(super) fn greet(&mut self, c: usize) -> bool {
        let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return false };
        if conn.proven {
            return conn.session.is_some();
        }
        if conn.tls.is_handshaking() {
            if conn.bytes_in > HANDSHAKE_MAX_BYTES {
                self.refuse(c, Code::Tls, "too many bytes before the handshake was done");
                return false;
            }
            return self.greet_early(c);
        }
        let peer = match conn.tls.peer() {
            Ok(peer) => peer,
            Err(e) => {
                let context = e.context.clone();
                self.refuse(c, e.code, &context);
                return false;
            }
        };
        conn.proven = true;
        self.strangers -= 1;
        if let Some(session) = conn.session {
            log::info!("{} connected from {} with early data", peer.name, conn.address);
            self.node.prove(self.clock.now(), session);
            if conn.closing {
                self.write(c);
            }
            return true;
        }
        match self.node.open(self.clock.now(), peer) {
            Ok(session) => {
                log::info!("{} connected from {}", peer.name, conn.address);
                conn.session = Some(session);
                self.of_session[session.index()] = c;
                true
            }
            Err(e) => {
                // It is told why, so that it knows when to come again.
                let n = refusal(e.code(), &mut self.out);
                log::warn!("{} {} {}", e.code(), conn.address, peer.name);
                let _ = conn.send(&self.out[..n]);
                conn.closing = true;
                self.write(c);
                false
            }
        }
    }

    /// The handshake goes on, but what came with its first packet may be heard already: true if it is. What might do
    /// harm if somebody else had recorded it waits (docs/PROTOCOL.md#tls-8).
    fn greet_early(&mut self, c: usize) -> bool {
        let Some(conn) = self.conns.get_mut(c).and_then(Option::as_mut) else { return false };
        if conn.session.is_some() {
            return true;
        }
        match conn.tls.early_peer() {
            Ok(Some(peer)) => {
                let Some(session) = self.node.open_early(self.clock.now(), peer) else { return false };
                log::debug!("{} speaks early from {}", peer.name, conn.address);
                conn.session = Some(session);
                self.of_session[session.index()] = c;
                true
            }
            Ok(None) => false,
            Err(e) => {
                self.refuse(c, e.code, &e.context);
                false
            }
        }
    }

    /// Closes a connection whose peer is not known, and says why in the log.
    pub(super) fn refuse(&mut self, c: usize, code: Code, why: &str) {
        let Some(mut conn) = self.conns.get_mut(c).and_then(Option::take) else { return };
        log::warn!("{code} {}: {why}", conn.address);
        // A TLS alert may wait to be sent: one try.
        let _ = conn.flush();
        let _ = self.poll.registry().deregister(&mut conn.socket);
        self.free.push(c);
        if !conn.proven {
            self.strangers -= 1;
        }
        if let Some(session) = conn.session {
            self.node.close(self.clock.now(), session);
        }
    }
}
