//! What waits for the hub, and what it would cost. Connects nowhere, takes no lock, writes nothing.

use ropeway_core::codec::Codec;
use ropeway_core::id::{Lane, StreamKey};

use super::Budget;
use super::account::Measured;
use super::days::{Look, boot_id};
use super::meter::Meter;
use crate::dir::DataDir;
use crate::error::{Error, Result};
use crate::store::Stop;
use crate::view::LogView;
use crate::zstd_codec::Zstd;

/// Bytes that are compressed as one piece: about what a batch has on a 2G link.
const PIECE_BYTES: usize = 16 << 10;
/// What an event costs in a batch before compression, beside its payload.
const EVENT_BYTES: usize = 4;
/// What a batch costs beside its columns: its head, its frame's, its TLS record's, and its acknowledgement.
const BATCH_BYTES: u64 = 45 + 5 + 22 + 35;
/// A sync without events: certificates, keys and tickets, HELLO, vectors of a few streams, GOODBYE. Measured.
const SESSION_BYTES: u64 = 1400;
/// Round trips of a sync beside its events: TCP, TLS, vectors, the last acknowledgement, GOODBYE.
const ROUND_TRIPS: u64 = 5;

/// What waits in one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneBacklog {
    /// Which.
    pub lane: Lane,
    /// Events of this node that no hub has acknowledged.
    pub events: u64,
    /// Bytes of their payloads.
    pub payload_bytes: u64,
    /// About how many bytes of the wire they need, acknowledgements included: they were compressed with the
    /// node's own codec to tell it.
    pub wire_bytes: u64,
}

/// What a sync would do.
#[derive(Debug)]
pub struct Forecast {
    /// All lanes, the most urgent first.
    pub lanes: Vec<LaneBacklog>,
    /// About how many bytes of the wire a sync needs that sends all of it: handshake and talk included; what
    /// the hub may have for this node is not known.
    pub wire_bytes: u64,
    /// About how many seconds, by the link of the last sync; `None` if none has measured it yet.
    pub seconds: Option<f64>,
    /// What is known of the link.
    pub link: Measured,
    /// Wire bytes that one sync may use now; `None` if as many as it likes.
    pub left: Option<u64>,
    /// Why a sync may not begin now.
    pub refusal: Option<Error>,
}

impl Forecast {
    /// Whether a sync may begin now, and has room for all that waits.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.refusal.is_none() && self.left.is_none_or(|left| self.wire_bytes <= left)
    }
}

/// Looks at what waits for the hub in `dir`, and at what `budget` says of it.
///
/// # Errors
/// Those of [`LogView::open_quickly`] and of reading the log;
/// [`Code::BadArgument`](ropeway_core::code::Code::BadArgument) for a budget with which no sync could begin.
pub fn forecast(dir: &DataDir, budget: &Budget) -> Result<Forecast> {
    let meter = Meter::new(dir, budget, Box::new(Look::now), boot_id())?;
    let (link, left) = meter.known();
    let mut view = LogView::open_quickly(dir)?;
    let waiting: Vec<(StreamKey, u64)> =
        view.frontier().filter(|e| e.own && e.top > e.acked).map(|e| (e.key, e.acked.max(e.floor) + 1)).collect();
    let mut lanes: Vec<LaneBacklog> =
        Lane::ALL.iter().map(|&lane| LaneBacklog { lane, events: 0, payload_bytes: 0, wire_bytes: 0 }).collect();
    let mut packer = Packer::new();
    for (key, from_seq) in waiting {
        let lane = &mut lanes[key.lane as usize];
        // What damage has taken is not sent either.
        let _missing = view.read_stream(&key, from_seq, |_, _, event| {
            lane.events += 1;
            lane.payload_bytes += event.payload.len() as u64;
            lane.wire_bytes += packer.add(event.payload);
            Stop::No
        })?;
        lane.wire_bytes += packer.flush();
    }
    let events_bytes: u64 = lanes.iter().map(|l| l.wire_bytes).sum();
    let wire_bytes = SESSION_BYTES + events_bytes;
    let seconds = link.bytes_per_s.map(|rate| {
        let rate = budget.bytes_per_s.map_or(rate, |most| most.min(rate)).max(1);
        wire_bytes as f64 / rate as f64 + (link.rtt_ms.unwrap_or(0) * ROUND_TRIPS) as f64 / 1000.0
    });
    let refusal = meter.ready(lanes.iter().any(|l| l.lane == Lane::Urgent && l.events > 0)).err();
    Ok(Forecast { lanes, wire_bytes, seconds, link, left, refusal })
}

/// Packs events as a session would.
struct Packer {
    codec: Option<Zstd>,
    piece: Vec<u8>,
    out: Vec<u8>,
}

impl Packer {
    fn new() -> Self {
        Self { codec: Zstd::new(), piece: Vec::new(), out: Vec::new() }
    }

    /// Wire bytes of what became full.
    fn add(&mut self, payload: &[u8]) -> u64 {
        let full = if self.piece.len() + payload.len() > PIECE_BYTES { self.flush() } else { 0 };
        self.piece.extend_from_slice(&[0; EVENT_BYTES]);
        self.piece.extend_from_slice(payload);
        full
    }

    /// Wire bytes of what is left.
    fn flush(&mut self) -> u64 {
        if self.piece.is_empty() {
            return 0;
        }
        self.out.resize(self.piece.len(), 0);
        let packed = self.codec.as_mut().and_then(|c| c.compress(&self.piece, &mut self.out));
        let bytes = packed.unwrap_or(self.piece.len()) as u64;
        self.piece.clear();
        bytes + BATCH_BYTES
    }
}
