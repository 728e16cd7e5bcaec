//! Byte streams between two hosts: rate, latency, jitter, cuts at any byte.

use std::collections::VecDeque;

use ropeway_core::node::{ReadRequest, SessionId};

use crate::rng::Rng;
use crate::tap::Tap;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Its name.
    pub name: &'static str,
    /// One way, in milliseconds.
    pub latency_ms: u64,
    /// Up to so much more, in milliseconds.
    pub jitter_ms: u64,
    /// Bytes per second, each way.
    pub rate: u64,
    /// Mean time between cuts in milliseconds, 0 for none.
    pub cut_every_ms: u64,
}

impl Profile {
    /// The 2G of a valley in Bhutan: 23 kbit/s, 0.6 s round trip, a cut every quarter of a minute.
    pub const BHUTAN_2G: Profile =
        Profile { name: "bhutan-2g", latency_ms: 300, jitter_ms: 100, rate: 2875, cut_every_ms: 15_000 };
    /// A good 2G link.
    pub const EDGE: Profile = Profile { name: "edge", latency_ms: 150, jitter_ms: 50, rate: 15_000, cut_every_ms: 0 };
    /// A local network.
    pub const LAN: Profile = Profile { name: "lan", latency_ms: 1, jitter_ms: 0, rate: 10_000_000, cut_every_ms: 0 };
    /// All of them.
    pub const ALL: [Profile; 3] = [Self::BHUTAN_2G, Self::EDGE, Self::LAN];
}

/// One connection. End 0 dialled.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// Nothing passes any more.
    pub(crate) cut: bool,
    pub(crate) profile: Profile,
}

/// What a runtime keeps of a connection, and the direction away from it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: usize,
    pub(crate) session: Option<SessionId>,
    /// Bytes of the node that the socket has not taken, from `out_at`.
    pub(crate) out: Vec<u8>,
    pub(crate) out_at: usize,
    pub(crate) ready: bool,
    pub(crate) read: Option<(ReadRequest, u64)>,
    /// Bytes that have arrived.
    pub(crate) rx: Vec<u8>,
    pub(crate) eof: bool,
    pub(crate) paused: bool,
    pub(crate) closed: bool,
    /// When a connection whose session has ended is given up.
    pub(crate) linger_us: u64,
    pub(crate) tap: Tap,
    free_us: u64,
    last_us: u64,
    pub(crate) flying: VecDeque<Vec<u8>>,
    flying_bytes: usize,
}

/// What a socket and the link take before they block.
const PIPE_BYTES: usize = 16 << 10;

impl End {
    pub(crate) fn new(host: usize, session: SessionId) -> Self {
        Self {
            host,
            session: Some(session),
            out: Vec::new(),
            out_at: 0,
            ready: false,
            read: None,
            rx: Vec::new(),
            eof: false,
            paused: false,
            closed: false,
            linger_us: u64::MAX,
            tap: Tap::default(),
            free_us: 0,
            last_us: 0,
            flying: VecDeque::new(),
            flying_bytes: 0,
        }
    }

    pub(crate) fn flushed(&self) -> bool {
        self.out_at == self.out.len()
    }

    /// Puts a piece of what waits into the link; when it arrives. `peer_rx`: bytes that the other
    /// side has not read.
    pub(crate) fn write(&mut self, now_us: u64, profile: &Profile, peer_rx: usize, rng: &mut Rng) -> Option<u64> {
        let room = PIPE_BYTES.saturating_sub(self.flying_bytes + peer_rx);
        let left = (self.out.len() - self.out_at).min(room);
        if left == 0 {
            return None;
        }
        let most = if rng.one_in(30) { 7 } else { 1400 };
        let n = left.min(rng.between(1, most) as usize);
        let piece = self.out[self.out_at..self.out_at + n].to_vec();
        self.out_at += n;
        self.flying_bytes += n;
        self.flying.push_back(piece);
        self.free_us = self.free_us.max(now_us) + n as u64 * 1_000_000 / profile.rate.max(1);
        let late = profile.latency_ms * 1000 + rng.below(profile.jitter_ms * 1000 + 1);
        self.last_us = self.last_us.max(self.free_us + late);
        Some(self.last_us)
    }

    /// When the end of the stream arrives.
    pub(crate) fn end_us(&self, now_us: u64, profile: &Profile) -> u64 {
        self.last_us.max(now_us + profile.latency_ms * 1000)
    }

    pub(crate) fn land(&mut self) -> Vec<u8> {
        let piece = self.flying.pop_front().unwrap_or_default();
        self.flying_bytes -= piece.len();
        piece
    }
}
