//! The full stack as what carries the frames: a connection is a [`Pipe`] of mutual TLS over TCP, a
//! session begins when its handshake has ended, and the runtime learns of a dead link from TCP or
//! from the node's own deadlines.

use ropeway_core::policy::Role;
use ropeway_std::{DeploymentId, MemoryCa};

use crate::check::Check;
use crate::full::{Loss, Meeting, Phys, Pipe, client, server};
use crate::link::{Conn, End, PIPE_BYTES};
use crate::profile::Profile;
use crate::step::Due;
use crate::world::World;

/// How long a connection that both sides have left is kept, for what is still on its way.
const BURY_US: u64 = 130_000_000;

/// How long a runtime waits for TCP and TLS to agree. A dialler that has sent its part and hears
/// nothing has nothing to send again: TCP alone would let it wait for ever.
const HANDSHAKE_US: u64 = 120_000_000;

/// What went over the air, over all connections of a run with the full stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AirTotals {
    /// Connections.
    pub connections: u64,
    /// Connections that resumed an earlier TLS session.
    pub resumed: u64,
    /// Bytes of IP packets towards the hub, and from it.
    pub bytes: [u64; 2],
    /// IP packets towards the hub, and from it.
    pub packets: [u64; 2],
    /// Packets lost, and dropped because the queue was full.
    pub lost: u64,
    /// Segments sent again.
    pub repeated: u64,
    /// Bytes of TLS records, both ways.
    pub tls_bytes: u64,
    /// Bytes of frames, both ways.
    pub plain_bytes: u64,
}

fn phys(profile: &Profile) -> Phys {
    let loss = match profile.loss_per_mille {
        0 => Loss::NONE,
        1..=7 => Loss::EDGE,
        8..=14 => Loss::GSM,
        _ => Loss::SATELLITE,
    };
    Phys::new(profile.latency_ms, profile.jitter_ms, profile.up_rate, profile.down_rate, loss)
}

impl World {
    /// Dials. True if a packet could be sent at all.
    pub(crate) fn connect_full(&mut self, from: usize, to: usize) -> bool {
        if self.hosts[from].node.is_none() || self.hosts[to].node.is_none() {
            return false;
        }
        if let Err(e) = self.make_tls(from).and_then(|()| self.make_tls(to)) {
            self.truth.fail(Check::Slots, format!("no TLS: {e}"));
            return false;
        }
        let (us, c) = (self.now_us, self.conns.len());
        let wall_s = [from, to].map(|h| self.hosts[h].now(us).wall_ms / 1000);
        let (Some(dialler), Some(hub)) = (&self.hosts[from].tls.0, &self.hosts[to].tls.1) else { return false };
        let meeting = Meeting { client: dialler, server: hub, address: "hub:7700", wall_s, serial: c as u64 };
        let pipe = match Pipe::new(us, &phys(&self.profile), &meeting, &mut self.rng) {
            Ok(pipe) => pipe,
            Err(e) => {
                self.truth.fail(Check::Slots, format!("no connection: {e}"));
                return false;
            }
        };
        self.conns.push(Conn {
            ends: [End::new(from, None), End::new(to, None)],
            cut: false,
            profile: self.profile,
            last_us: us,
            pipe: Some(Box::new(pipe)),
            pipe_at_us: u64::MAX,
        });
        self.hosts[from].dialling = Some(c);
        self.air.connections += 1;
        self.truth.note(format_args!("{us} dial {from} {to}"));
        self.plan_cut(c);
        self.at_pipe(c, us);
        self.at(HANDSHAKE_US, Due::Impatient(c));
        true
    }

    /// Ends without a session leave.
    pub(crate) fn lose_patience(&mut self, c: usize) {
        for e in 0..2 {
            let end = &self.conns[c].ends[e];
            if end.session.is_none() && !end.closed {
                self.drop_end(c, e);
            }
        }
    }

    /// Certificates last for a run; sessions to resume and tickets for a process.
    fn make_tls(&mut self, h: usize) -> ropeway_std::Result<()> {
        if self.hosts[h].identity_tls.is_none() {
            let wall_s = crate::host::EPOCH_MS / 1000;
            if self.ca.is_none() {
                let seed = self.fresh_seed();
                self.ca = Some(MemoryCa::new(seed, DeploymentId(7u64.to_be_bytes()), wall_s)?);
            }
            let seed = self.fresh_seed();
            let config = self.hosts[h].config;
            if let Some(ca) = &mut self.ca {
                self.hosts[h].identity_tls = Some(ca.identity(config.name, config.role, seed)?);
            }
        }
        let host = &mut self.hosts[h];
        let Some(id) = &host.identity_tls else { return Ok(()) };
        let options = ropeway_std::tls::TlsOptions::default();
        if host.tls.0.is_none() {
            host.tls.0 = Some(client(id, &options)?);
        }
        if host.tls.1.is_none() && host.config.role == Role::Hub {
            host.tls.1 = Some(server(id, &options)?);
        }
        Ok(())
    }

    pub(crate) fn at_pipe(&mut self, c: usize, us: u64) {
        if self.conns[c].pipe.is_some() && us < self.conns[c].pipe_at_us {
            self.conns[c].pipe_at_us = us;
            self.due_at(us, Due::Pipe(c));
        }
    }

    /// Lets a connection do what is due now.
    pub(crate) fn serve_pipe(&mut self, c: usize) {
        let us = self.now_us;
        if us < self.conns[c].pipe_at_us {
            return;
        }
        self.conns[c].pipe_at_us = u64::MAX;
        let Some(pipe) = &mut self.conns[c].pipe else { return };
        let (next, over) = (pipe.poll(us, &mut self.rng), pipe.is_over());
        if let Some(next) = next {
            self.at_pipe(c, next);
        }
        if over && self.conns[c].ends.iter().all(|e| e.closed) {
            return self.bury(c);
        }
        for e in 0..2 {
            let h = self.conns[c].ends[e].host;
            if self.conns[c].ends[e].closed || self.hosts[h].frozen || self.hosts[h].node.is_none() {
                continue;
            }
            self.begin_session(c, e);
            self.take_plain(c, e);
            self.pump(h);
        }
    }

    /// The handshake of an end has ended: from here on the node is concerned.
    fn begin_session(&mut self, c: usize, e: usize) {
        let end = &self.conns[c].ends[e];
        let Some(pipe) = self.conns[c].pipe.as_ref().filter(|_| end.session.is_none()) else { return };
        let (h, to) = (end.host, self.conns[c].ends[1 - e].host);
        let Some(peer) = pipe.established(e) else { return };
        let resumed = pipe.is_resumed();
        let expected = self.hosts[to].identity();
        self.truth.hold(Check::Origin, peer == expected, || format!("TLS took {expected:?} for {peer:?}"));
        let Some(id) = self.open_session(h, peer) else { return self.drop_end(c, e) };
        if e == 0 {
            self.hosts[h].dialling = None;
            self.counts.sessions += 1;
            self.air.resumed += u64::from(resumed);
            self.finish_early(h, id);
        }
        self.conns[c].ends[e].session = Some(id);
        self.hosts[h].sessions.insert(id, (c, e));
        self.truth.note(format_args!("{} session {h} {c} {e}", self.now_us));
    }

    /// Moves what has arrived to where the node's runtime reads it.
    pub(crate) fn take_plain(&mut self, c: usize, e: usize) {
        let conn = &mut self.conns[c];
        let Some(pipe) = &mut conn.pipe else { return };
        let end = &mut conn.ends[e];
        if end.session.is_some() && end.rx.len() < PIPE_BYTES && pipe.readable(e) > 0 {
            let before = end.rx.len();
            pipe.read(e, &mut end.rx);
            let n = end.rx.len() - before;
            self.truth.note(format_args!("{} land {c} {e} {n}", self.now_us));
            self.at_pipe(c, self.now_us);
        }
        let conn = &mut self.conns[c];
        let Some(pipe) = &conn.pipe else { return };
        let Some(ended) = pipe.ended(e).filter(|_| pipe.readable(e) == 0) else { return };
        let end = &mut conn.ends[e];
        if !end.eof {
            end.eof = true;
            self.truth.note(format_args!("{} ended {c} {e} {ended:?}", self.now_us));
            if self.conns[c].ends[e].session.is_none() {
                self.drop_end(c, e);
            }
        }
    }

    /// Both sides are gone for good: what the connection has cost is added up.
    pub(crate) fn bury(&mut self, c: usize) {
        let conn = &mut self.conns[c];
        if !conn.ends.iter().all(|e| e.closed) {
            return;
        }
        self.add_up(c);
        self.conns[c].pipe = None;
    }

    pub(crate) fn add_up(&mut self, c: usize) {
        let Some(pipe) = &self.conns[c].pipe else { return };
        for (w, way) in pipe.stats().ways.iter().enumerate() {
            self.air.bytes[w] += way.air.bytes;
            self.air.packets[w] += way.air.packets;
            self.air.lost += way.air.lost + way.air.overflowed;
            self.air.repeated += way.repeated;
            self.air.tls_bytes += way.tls_bytes;
            self.air.plain_bytes += way.plain_bytes;
        }
    }

    /// The runtime of an end leaves a connection of the full stack.
    pub(crate) fn leave_pipe(&mut self, c: usize, e: usize) {
        let (us, h, cut) = (self.now_us, self.conns[c].ends[e].host, self.conns[c].cut);
        let Some(pipe) = &mut self.conns[c].pipe else { return };
        if cut {
            pipe.die(e);
        } else {
            pipe.close(e);
        }
        if self.hosts[h].dialling == Some(c) {
            self.hosts[h].dialling = None;
        }
        self.at_pipe(c, us);
        if self.conns[c].ends.iter().all(|e| e.closed) {
            self.at(BURY_US, Due::Bury(c));
        }
    }
}
