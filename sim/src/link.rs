//! Byte streams between two hosts: rate, latency, jitter, cuts at any byte.

use std::collections::VecDeque;

use ropeway_core::node::{ReadRequest, SessionId};

use crate::fault::{Fault, Faults};
use crate::full::Pipe;
use crate::profile::Profile;
use crate::rng::Rng;
use crate::tap::Tap;

/// One connection. End 0 dialled.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) ends: [End; 2],
    /// Nothing passes any more.
    pub(crate) cut: bool,
    pub(crate) profile: Profile,
    /// When something was put on it last.
    pub(crate) last_us: u64,
    /// The full stack, if that carries it, and when it is to be polled.
    pub(crate) pipe: Option<Box<Pipe>>,
    pub(crate) pipe_at_us: u64,
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
    /// The socket takes nothing before that.
    pub(crate) refuses_until_us: u64,
    pub(crate) tap: Tap,
    /// How often it was held up.
    pub(crate) stalls: u64,
    free_us: u64,
    last_us: u64,
    pub(crate) flying: VecDeque<Vec<u8>>,
    flying_bytes: usize,
}

/// What a socket and the link take before they block.
pub(crate) const PIPE_BYTES: usize = 16 << 10;
/// A piece is a packet.
const PIECE_BYTES: usize = 1400;

impl End {
    pub(crate) fn new(host: usize, session: Option<SessionId>) -> Self {
        Self {
            host,
            session,
            out: Vec::new(),
            out_at: 0,
            ready: false,
            read: None,
            rx: Vec::new(),
            eof: false,
            paused: false,
            closed: false,
            linger_us: u64::MAX,
            refuses_until_us: 0,
            tap: Tap::default(),
            stalls: 0,
            free_us: 0,
            last_us: 0,
            flying: VecDeque::new(),
            flying_bytes: 0,
        }
    }

    pub(crate) fn flushed(&self) -> bool {
        self.out_at == self.out.len()
    }

    /// Puts a piece of what waits into the link; when it arrives, and its size. `peer_rx`: bytes that
    /// the other side has not read.
    pub(crate) fn write(
        &mut self,
        now_us: u64,
        profile: &Profile,
        e: usize,
        faults: Faults,
        peer_rx: usize,
        rng: &mut Rng,
    ) -> Option<(u64, usize)> {
        let room = PIPE_BYTES.saturating_sub(self.flying_bytes + peer_rx);
        let left = (self.out.len() - self.out_at).min(room).min(PIECE_BYTES);
        if left == 0 {
            return None;
        }
        let n = match faults.has(Fault::Chunks) {
            true if rng.one_in(30) => rng.between(1, 7).min(left as u64) as usize,
            true => left - rng.below(left as u64) as usize,
            false => left,
        };
        let piece = self.out[self.out_at..self.out_at + n].to_vec();
        self.out_at += n;
        self.flying_bytes += n;
        self.flying.push_back(piece);
        let rate = if e == 0 { profile.up_rate } else { profile.down_rate };
        self.free_us = self.free_us.max(now_us) + n as u64 * 1_000_000 / rate.max(1);
        let mut late = profile.latency_ms * 1000 + rng.below(profile.jitter_ms * 1000 + 1);
        if faults.has(Fault::Stall) && rng.one_in(50) {
            // A lost packet is sent again after a timeout, and holds up all behind it.
            late += rng.between(1_000_000, 8_000_000);
            self.stalls += 1;
        }
        self.last_us = self.last_us.max(self.free_us + late);
        Some((self.last_us, n))
    }

    /// When the link will have carried all that was put into it.
    pub(crate) fn sent_us(&self) -> u64 {
        self.free_us
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
