//! What a node is configured with: its identity, its timing, and the sizes from which all memory
//! follows.

use crate::code::Code;
use crate::id::NodeName;
use crate::policy::{Policy, Role};
use crate::wire::batch::BATCH_MAX_EVENTS;

/// Who this node is and how it behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Its name, as in its certificate.
    pub name: NodeName,
    /// Its kind of certificate.
    pub role: Role,
    /// From so many streams of third nodes on they are told to a peer by one digest, not one by one
    /// (docs/PROTOCOL.md#digest-1). A digest has the length of one entry; where it differs, a round trip and some
    /// hundred bytes are lost.
    pub digest_from: usize,
    /// Number of the deployment; peers of another one are refused.
    pub deployment: u64,
    /// What clinics may read here.
    pub policy: Policy,
    /// Hash of what identifies the machine and the card, 0 if unknown. When it differs from the one
    /// in the log, the card was copied: the node then starts a new incarnation.
    pub fingerprint: u64,
    /// How far a remote stamp may lead the wall clock and still move ours.
    pub hlc_bound_ms: u64,
    /// Granularity of the stamps' physical part. 1 or more.
    pub hlc_tick_ms: u64,
    /// The wall clock is not to be trusted below this (build time): events are then marked
    /// [`UNSYNCED`](crate::event::flags::UNSYNCED).
    pub wall_floor_ms: u64,
    /// Payload of the largest event that is taken from a peer, in bytes; of a larger one only its place is, and both
    /// ends are told (docs/PROTOCOL.md#withheld-5). 0: no other bound than [`Limits::batch_bytes`]. For other
    /// reasons to refuse an event see [`accept`](crate::accept).
    pub accept_bytes: usize,
    /// See [`Timing`].
    pub timing: Timing,
}

/// Durations of a session, in milliseconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Timing {
    /// From `open` until the peer has said HELLO and its whole vector.
    pub hello_timeout_ms: u64,
    /// Silence after which a PING is sent.
    pub ping_after_ms: u64,
    /// Silence after which the session is closed. More than `ping_after_ms` plus a slow round trip.
    pub silence_timeout_ms: u64,
    /// How long an acknowledgement may wait for company.
    pub ack_delay_ms: u64,
    /// Link time that one batch should take at the measured rate.
    pub frame_time_ms: u64,
}

impl Default for Timing {
    /// Made for 2G: ten seconds of silence is normal there.
    fn default() -> Self {
        Self {
            hello_timeout_ms: 60_000,
            ping_after_ms: 20_000,
            silence_timeout_ms: 60_000,
            ack_delay_ms: 250,
            frame_time_ms: 500,
        }
    }
}

impl Timing {
    /// All durations divided by `factor` (0 counts as 1): for runs faster than real time.
    #[must_use]
    pub fn divided_by(self, factor: u64) -> Self {
        let f = |ms: u64| (ms / factor.max(1)).max(1);
        Self {
            hello_timeout_ms: f(self.hello_timeout_ms),
            ping_after_ms: f(self.ping_after_ms),
            silence_timeout_ms: f(self.silence_timeout_ms),
            ack_delay_ms: f(self.ack_delay_ms),
            frame_time_ms: f(self.frame_time_ms),
        }
    }
}

/// Sizes. Everything the node ever holds follows from them; nothing a peer sends and no length of
/// the log makes it grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Limits {
    /// Sessions at once.
    pub sessions: usize,
    /// Streams in the log, of all nodes.
    pub streams: usize,
    /// Streams of one node that a peer may make known (incarnations times lanes).
    pub streams_per_node: usize,
    /// Pairs of session and stream, over all sessions.
    pub links: usize,
    /// Largest event payload in bytes.
    pub event_bytes: usize,
    /// Largest frame body accepted and sent, in bytes, a multiple of 1,024.
    pub frame_bytes: usize,
    /// Bytes of a batch before compression, a multiple of 1,024.
    pub batch_bytes: usize,
    /// Batch bytes that one peer may have under way to us, a multiple of 1,024.
    pub credit_bytes: usize,
    /// Bytes of one commit group's body.
    pub group_bytes: usize,
    /// Bytes of one segment file, a multiple of 4,096.
    pub segment_bytes: usize,
    /// Streams whose newest events are kept in memory to compress against; 0: batches are compressed
    /// each for itself.
    pub histories: usize,
    /// Bytes of them for one stream.
    pub history_bytes: usize,
    /// Large batches that may come in parts at once, of all peers, those whose session is cut among them; 0:
    /// none are taken in parts.
    pub parcels: usize,
    /// Bytes of all of them.
    pub parcel_bytes: usize,
    /// Large batches that are kept, packed, while they are sent in parts; 0: none are sent so.
    pub outbox: usize,
}

/// A batch is not made smaller than this for the sake of a slow link: compression would suffer.
pub(crate) const BATCH_MIN_BYTES: usize = 4 << 10;
/// Bytes of a batch's frame beside the events: the header's fields at their longest.
pub(crate) const BATCH_SLACK_BYTES: usize = 64;
/// What one event costs at most in a batch or a commit group beside its payload.
pub(crate) const EVENT_SLACK_BYTES: usize = 32;
/// Bytes of history of a node on an ordinary computer: of what it holds, half to all is compressed against.
const HISTORY_BYTES: usize = 128 << 10;
/// Bytes of a hub's memory for parcels, for each of its sessions.
const PARCEL_SHARE_BYTES: usize = 16 << 10;
/// Smallest bound for frames: as large as the batches that every peer may send at first.
pub(crate) const FRAME_MIN_BYTES: usize = 4096;
/// From so many streams of third nodes on a digest is worth its round trip where it differs.
pub const DIGEST_FROM: usize = 8;
/// Streams of a hub, however few clinics are there at once: they come by turns. Tables take memory as they fill.
const HUB_STREAMS: usize = 16 << 10;
/// Smallest credit that lets a session make progress.
pub(crate) const CREDIT_MIN_BYTES: usize = 2048;

impl Limits {
    /// A clinic: one or two peers, its own streams and what it may read of others.
    #[must_use]
    pub fn clinic() -> Self {
        Self {
            sessions: 4,
            streams: 512,
            streams_per_node: 64,
            links: 1024,
            event_bytes: 256 << 10,
            frame_bytes: (256 << 10) + 1024,
            batch_bytes: (256 << 10) + 1024,
            credit_bytes: 64 << 10,
            group_bytes: 288 << 10,
            segment_bytes: 8 << 20,
            histories: 4,
            history_bytes: HISTORY_BYTES,
            parcels: 8,
            parcel_bytes: 1 << 20,
            outbox: 3,
        }
    }

    /// A hub for `sessions` clinics at once.
    #[must_use]
    pub fn hub(sessions: usize) -> Self {
        let streams = (sessions * 4).max(HUB_STREAMS);
        let histories = sessions.clamp(4, 64);
        Self {
            sessions,
            streams,
            links: sessions * 4 + 1024,
            credit_bytes: 32 << 10,
            histories,
            parcels: sessions.clamp(16, 2048),
            parcel_bytes: (sessions * PARCEL_SHARE_BYTES).clamp(1 << 20, 64 << 20),
            outbox: (sessions / 64).clamp(4, 64),
            ..Self::clinic()
        }
    }

    /// A leaf on a microcontroller: one session, small events, a few dozen KiB in all.
    #[must_use]
    pub fn leaf() -> Self {
        Self {
            sessions: 1,
            streams: 8,
            streams_per_node: 8,
            links: 8,
            event_bytes: 1024,
            frame_bytes: 4096,
            batch_bytes: 4096,
            credit_bytes: 4096,
            group_bytes: 8192,
            segment_bytes: 64 << 10,
            histories: 0,
            history_bytes: 0,
            parcels: 0,
            parcel_bytes: 0,
            outbox: 0,
        }
    }

    /// Whether the sizes fit one another.
    ///
    /// # Errors
    /// [`Code::Config`].
    pub fn check(&self) -> Result<(), Code> {
        let ok = self.sessions >= 1
            && self.streams >= 3
            && self.links >= 3
            && self.streams_per_node >= 3
            && self.event_bytes >= 64
            && self.batch_bytes >= self.event_bytes + EVENT_SLACK_BYTES
            && self.frame_bytes >= self.event_bytes + EVENT_SLACK_BYTES + BATCH_SLACK_BYTES
            && (FRAME_MIN_BYTES..=1 << 20).contains(&self.frame_bytes)
            && self.credit_bytes >= 2 * CREDIT_MIN_BYTES
            && [self.frame_bytes, self.batch_bytes, self.credit_bytes].iter().all(|bytes| bytes.is_multiple_of(1024))
            && self.group_bytes >= self.batch_bytes + (self.batch_bytes / 3).min(BATCH_MAX_EVENTS as usize) + 1024
            && self.group_bytes <= 1 << 20
            && self.segment_bytes.is_multiple_of(4096)
            && self.segment_bytes >= self.group_bytes + 4 * 4096
            && self.segment_bytes <= 64 << 20
            && (self.histories == 0 || (1024..=1 << 20).contains(&self.history_bytes))
            && (self.parcels == 0 || self.parcel_bytes >= self.frame_bytes);
        if ok { Ok(()) } else { Err(Code::Config) }
    }

    /// Bytes of the arena that holds unfinished frames: every session's credit, a control frame
    /// for each, and two of the largest frames on top.
    #[must_use]
    pub fn arena_bytes(&self) -> usize {
        self.sessions * (self.credit_bytes + crate::arena::BLOCK_BYTES) + 2 * (self.frame_bytes + 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_presets_are_consistent() {
        for l in [Limits::clinic(), Limits::hub(5), Limits::hub(10_000), Limits::leaf()] {
            assert_eq!(l.check(), Ok(()));
        }
        assert_eq!(Limits { group_bytes: 100, ..Limits::clinic() }.check(), Err(Code::Config));
        assert_eq!(Limits { parcel_bytes: 4096, ..Limits::clinic() }.check(), Err(Code::Config));
    }
}
