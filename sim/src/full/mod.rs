//! The whole stack of one connection in virtual time: real rustls over real TCP over a link that is
//! slow, late and lossy. Everything is polled, nothing reads a clock or draws by itself: the same
//! draws give the same packets at the same microseconds.

// The world still knows the byte stream only.

mod net;
mod phys;
#[cfg(test)]
mod tests;
mod tls;

use ropeway_core::code::Code;
use ropeway_core::policy::PeerIdentity;
use ropeway_std::Error;
use ropeway_std::tls::{Client, Server};

use crate::rng::Rng;
use net::Socket;
use phys::Air;
use tls::{Draws, End, Eof, Source};

pub(crate) use phys::{AirStats, Loss, Phys};
pub(crate) use tls::{client, server};

/// How a connection ended for one end, other than by its own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The peer said that nothing follows, and everything was read.
    Closed,
    /// The stream stopped without that, and everything was read.
    Torn,
    /// The peer reset it.
    Reset,
    /// TCP gave up.
    TimedOut,
    /// TLS refused the peer, or the peer this end.
    Refused(Code),
}

/// What one direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WayStats {
    /// Packets.
    pub(crate) air: AirStats,
    /// TCP segments that were sent again.
    pub(crate) repeated: u64,
    /// Bytes of TLS given to TCP.
    pub(crate) tls_bytes: u64,
    /// Plain bytes taken from the sender.
    pub(crate) plain_bytes: u64,
    /// Plain bytes that the receiver's TLS has yielded.
    pub(crate) arrived_bytes: u64,
}

/// What a connection has carried, and a fingerprint of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PipeStats {
    /// `[0]` is the direction away from the end that dialled.
    pub(crate) ways: [WayStats; 2],
    /// FNV-1a (64 bits) of all packets and the microseconds at which they were sent.
    pub(crate) fnv: u64,
}

/// Who meets whom, and when.
pub(crate) struct Meeting<'a> {
    /// The dialling process.
    pub(crate) client: &'a Client,
    /// The serving process.
    pub(crate) server: &'a Server,
    /// What the dialling process calls the serving one; it keeps tickets under it.
    pub(crate) address: &'a str,
    /// What the wall clocks of both show, in seconds since 1970.
    pub(crate) wall_s: [u64; 2],
    /// A number that no other connection of the run has: without draws, randomness is made of it.
    pub(crate) serial: u64,
}

/// One connection between a dialling node (end 0) and a serving one (end 1).
pub(crate) struct Pipe {
    phys: Phys,
    air: [Air; 2],
    hosts: [Host; 2],
    now_us: u64,
    fnv: u64,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipe")
    }
}

struct Host {
    socket: Socket,
    tls: End,
    alive: bool,
    aborted: bool,
}

impl Pipe {
    /// Dials. Virtual time is in microseconds; poll it at once.
    ///
    /// # Errors
    /// None that is known: those of making a TLS connection.
    pub(crate) fn new(now_us: u64, phys: &Phys, meeting: &Meeting<'_>, rng: &mut Rng) -> Result<Self, Error> {
        let mut host = |end: usize, tls: &dyn Fn() -> Result<ropeway_std::tls::Conn, Error>| {
            let mut own = fold(&rng.seed(), now_us, meeting.serial, end as u64);
            let source = Source::new(Draws(own.next()), now_us, meeting.wall_s[end]);
            let port = 49_152 + (own.next() % 16_384) as u16;
            let socket = Socket::new(end, now_us, port, own.next(), phys);
            Ok::<_, Error>(Host { socket, tls: End::new(source, tls)?, alive: true, aborted: false })
        };
        let hosts = [host(0, &|| meeting.client.connect(meeting.address))?, host(1, &|| meeting.server.accept())?];
        Ok(Self { phys: *phys, air: [Air::new(), Air::new()], hosts, now_us, fnv: FNV_START })
    }

    /// Gives plain bytes to `end`'s TLS; how many it took. 0 before the handshake has ended, and
    /// while earlier bytes wait for the socket. Poll the pipe afterwards.
    pub(crate) fn write(&mut self, end: usize, plain: &[u8]) -> usize {
        let host = &mut self.hosts[end];
        if host.alive { host.tls.write(plain, &mut host.socket) } else { 0 }
    }

    /// Moves plain bytes that have arrived at `end` to `out`. What is not read fills the window,
    /// and then the peer's buffers. Poll the pipe afterwards.
    pub(crate) fn read(&mut self, end: usize, out: &mut Vec<u8>) {
        out.append(&mut self.hosts[end].tls.plain);
    }

    /// How many plain bytes wait for `end` to read them.
    pub(crate) fn readable(&self, end: usize) -> usize {
        self.hosts[end].tls.plain.len()
    }

    /// Who the peer is by its verified certificate, once the handshake has ended at `end`.
    pub(crate) fn established(&self, end: usize) -> Option<PeerIdentity> {
        self.hosts[end].tls.peer
    }

    /// Whether the handshake used a ticket.
    pub(crate) fn is_resumed(&self) -> bool {
        self.hosts[0].tls.resumed
    }

    /// Says that `end` sends nothing more, and ends its direction after what it wrote.
    pub(crate) fn close(&mut self, end: usize) {
        let host = &mut self.hosts[end];
        if host.alive {
            host.tls.close(&mut host.socket);
        }
    }

    /// `end` resets the connection, as the kernel does when a process dies.
    pub(crate) fn abort(&mut self, end: usize) {
        self.hosts[end].aborted = true;
        self.hosts[end].socket.abort();
    }

    /// The machine of `end` loses its power: it says nothing any more.
    pub(crate) fn die(&mut self, end: usize) {
        let host = &mut self.hosts[end];
        (host.alive, host.aborted) = (false, true);
        host.socket.abort();
        // The reset that this would send is not sent, and forgotten.
        host.socket.poll(self.now_us);
        host.socket.take_packets();
    }

    /// The machine of `end` runs again and knows nothing: its kernel answers with a reset.
    pub(crate) fn reboot(&mut self, end: usize) {
        self.hosts[end].alive = true;
    }

    /// The radio is gone: what is on the way and whatever follows is lost. TCP is told nothing.
    pub(crate) fn cut(&mut self) {
        self.air.iter_mut().for_each(|air| air.set_cut(true));
    }

    /// The radio is back.
    pub(crate) fn heal(&mut self) {
        self.air.iter_mut().for_each(|air| air.set_cut(false));
    }

    /// Sets the wall clock of `end`, in seconds since 1970.
    #[cfg(test)]
    pub(crate) fn set_wall(&mut self, end: usize, wall_s: u64) {
        self.hosts[end].tls.source.set_wall(self.now_us, wall_s);
    }

    /// How the connection ended for `end`, if it did and `end` did not do it itself.
    pub(crate) fn ended(&self, end: usize) -> Option<Ended> {
        let host = &self.hosts[end];
        if host.aborted {
            return None;
        }
        match (host.tls.failed, host.tls.eof) {
            (Some(code), _) => Some(Ended::Refused(code)),
            (_, Some(Eof::Broken)) if host.socket.was_reset => Some(Ended::Reset),
            (_, Some(Eof::Broken)) => Some(Ended::TimedOut),
            (_, Some(Eof::Clean)) if host.tls.plain.is_empty() => Some(Ended::Closed),
            (_, Some(Eof::Torn)) if host.tls.plain.is_empty() => Some(Ended::Torn),
            _ => None,
        }
    }

    /// Whether nothing more comes of it, at either end: it can be dropped.
    pub(crate) fn is_over(&self) -> bool {
        self.hosts.iter().all(|h| !h.alive || h.socket.is_over())
    }

    /// What it has carried.
    pub(crate) fn stats(&self) -> PipeStats {
        let way = |end: usize| WayStats {
            air: self.air[end].stats,
            repeated: self.hosts[end].socket.repeated,
            tls_bytes: self.hosts[end].tls.tls_out,
            plain_bytes: self.hosts[end].tls.plain_out,
            arrived_bytes: self.hosts[1 - end].tls.plain_in,
        };
        PipeStats { ways: [way(0), way(1)], fnv: self.fnv }
    }

    /// Does all that is due until `now_us`, each thing at its own time; when it wants to be polled
    /// next, later than now. `None` if it waits for its callers only.
    pub(crate) fn poll(&mut self, now_us: u64, rng: &mut Rng) -> Option<u64> {
        while let Some(at_us) = self.next_us().filter(|at_us| *at_us < now_us) {
            self.step(at_us, rng);
        }
        self.step(now_us.max(self.now_us), rng);
        self.next_us()
    }

    fn next_us(&mut self) -> Option<u64> {
        let now_us = self.now_us;
        let stacks = self.hosts.iter_mut().filter(|h| h.alive).filter_map(|h| h.socket.next_us(now_us));
        stacks.chain(self.air.iter().filter_map(Air::next_us)).min()
    }

    fn step(&mut self, now_us: u64, rng: &mut Rng) {
        self.now_us = now_us;
        // A link without any delay brings answers within the step.
        loop {
            let mut landed = false;
            for end in 0..2 {
                while let Some(packet) = self.air[1 - end].land(now_us) {
                    landed = true;
                    if self.hosts[end].alive {
                        self.hosts[end].socket.arrive(packet);
                    }
                }
                self.turn(end, rng);
            }
            if !landed {
                return;
            }
        }
    }

    /// Lets one end work until it has nothing more to do, and sends its packets.
    fn turn(&mut self, end: usize, rng: &mut Rng) {
        let host = &mut self.hosts[end];
        if !host.alive {
            return;
        }
        loop {
            host.socket.poll(self.now_us);
            if host.aborted || !host.tls.pump(self.now_us, &mut host.socket) {
                break;
            }
        }
        for packet in host.socket.take_packets() {
            self.fnv = fnv(self.fnv, &self.now_us.to_le_bytes());
            self.fnv = fnv(self.fnv, &packet);
            self.air[end].send(self.now_us, packet, end, &self.phys, rng);
        }
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// A generator for one end. It needs no draws: where they are over, time and number differ.
fn fold(seed: &[u8], now_us: u64, serial: u64, end: u64) -> Draws {
    let own = [now_us, serial, end].iter().fold(FNV_START, |hash, n| fnv(hash, &n.to_le_bytes()));
    Draws(fnv(own, seed))
}
