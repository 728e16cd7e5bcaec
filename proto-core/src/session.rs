//! What a node keeps of one session, and of each pair of session and stream. Data only; the verbs
//! are in `node/`.

use crate::arena;
use crate::code::Code;
use crate::event::ChainTag;
use crate::fifo::{Fifo, Hook, NONE};
use crate::id::Lane;
use crate::node::Rest;
use crate::planted::{Bug, has, mark};
use crate::policy::{PeerIdentity, ReadGrant, WriteGrant};
use crate::time::Instant;
use crate::wire::control::Hello;
use crate::wire::frame::FrameHead;
use crate::wire::part::ParcelTag;

/// Names a session. A number that was used before names nothing: it carries a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SessionId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl SessionId {
    /// A number that fits where a table of the runtime wants one: below
    /// [`Limits::sessions`](crate::limits::Limits::sessions), and unique among live sessions.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

/// What a session has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct SessionStats {
    /// Events sent.
    pub sent: u64,
    /// Events that the peer has acknowledged as durable in this session.
    pub acknowledged: u64,
    /// New events taken from the peer.
    pub received: u64,
    /// Events from the peer that were here already.
    pub duplicates: u64,
    /// Events of this node that the peer held already when the session began.
    pub resumed_at: u64,
    /// Streams that cannot be sent on because a part of them is damaged here, or over the limits of a peer that does
    /// not know what a withheld event is.
    pub blocked: u32,
    /// Events that the peer does not get; it goes on behind them.
    pub withheld: u64,
    /// Events that did not come from the peer; what stands in their places was taken.
    pub placed: u64,
    /// Bytes of frames taken from the peer.
    pub bytes_in: u64,
    /// Bytes of frames for the peer.
    pub bytes_out: u64,
    /// The peer has another base sample than this node: neither was used ([`Code::SampleDiffers`]).
    pub sample_differs: bool,
    /// For how many seconds the peer wants to be left alone, as its ERROR said; 0 if it did not.
    pub retry_after_s: u16,
}

/// Who ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EndedBy {
    /// This node.
    Us,
    /// The peer said so.
    Peer,
    /// The runtime called `close`: the connection is gone.
    Transport,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ending {
    /// `None`: both sides said GOODBYE; everything was acknowledged.
    pub code: Option<Code>,
    /// Who ended it.
    pub by: EndedBy,
}

/// One batch under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flight {
    pub(crate) link: u32,
    pub(crate) last_seq: u64,
    /// Of a part: where in its parcel it ends. 0 of a whole batch.
    pub(crate) upto: usize,
    pub(crate) bytes: usize,
    pub(crate) at: Instant,
    /// Value of [`Pace::delivered`] when it was sent.
    pub(crate) delivered: u64,
}

/// A batch that is sent in parts, or that the peer has a beginning of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) link: u32,
    pub(crate) seq: u64,
    pub(crate) tag: ParcelTag,
    /// How far it is sent in this session, or was before.
    pub(crate) offset: usize,
    /// How far the peer has said that it has it.
    pub(crate) held: usize,
    /// A part has gone in this session.
    pub(crate) begun: bool,
}

/// A read of the log that was asked for on the way out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub(crate) token: u64,
    pub(crate) link: u32,
    /// It is for the history, not to be sent.
    pub(crate) history: bool,
}

/// History that a batch from the peer needs, and that is not in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lacking {
    pub(crate) stream: u32,
    pub(crate) from_seq: u64,
    /// The last event of it.
    pub(crate) upto_seq: u64,
    /// Of the read under way.
    pub(crate) token: Option<u64>,
    /// Reads so far.
    pub(crate) reads: u32,
}

/// What a first flight has used of what the peer has not offered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Early {
    /// Bits of the codecs.
    pub(crate) codecs: u32,
    /// Of the largest batch, before compression.
    pub(crate) raw_bytes: usize,
}

/// Refused events that the peer is to hear of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LackDue {
    pub(crate) link: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
    pub(crate) code: u16,
}

/// Words about refused events that wait to be sent, at most.
pub(crate) const LACKS_MAX: usize = 8;

/// Batches under way at most.
pub(crate) const FLIGHTS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// Frames flow.
    Live,
    /// Ended; a last frame is still to be sent.
    Ending(LastFrame),
    /// Ended; the runtime has yet to hear [`Transmit::Close`](crate::node::Transmit).
    Closing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastFrame {
    Error(Code),
    Goodbye,
}

/// The link's measured speed, after BBR's idea (Cardwell et al. 2016): a rate is what was
/// delivered between the sending and the acknowledgement of one batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) delivered: u64,
    /// Bytes per second, 0 before the first acknowledgement.
    pub(crate) rate: u64,
    /// Smallest time from a batch to its acknowledgement.
    pub(crate) rtt_ms: u64,
    /// When a batch was acknowledged last.
    pub(crate) acked_at: Instant,
    /// Raw bytes per compressed byte, in 256ths.
    pub(crate) ratio_256: u64,
    /// The batch before left more to send.
    pub(crate) more: bool,
    /// How often the link has waited for the next batch of late: packing takes longer than carrying.
    pub(crate) waited: u8,
}

/// Of [`Pace::waited`], where the link counts as fast; each time that it has waited counts twice.
const WAITED_ENOUGH: u8 = 4;

/// A link whose answers take so long and that carries so little waits for lost packets, and not for a computer: cheaper
/// batches would take longer on it than the dearest ones take to pack, on the smallest computer.
const THIN_RTT_MS: u64 = 300;
/// In bytes a second.
const THIN_RATE: u64 = 10_000;

/// Bytes that a link is believed to carry at least, when a deadline is set, in the time after which
/// silence is the end.
const PATIENCE_LEAST_BYTES: u64 = 256 * 60;
/// And at most.
const PATIENCE_MOST_BYTES: u64 = 2048 * 60;

impl Pace {
    pub(crate) const START: Pace =
        Pace { delivered: 0, rate: 0, rtt_ms: u64::MAX, acked_at: Instant(0), ratio_256: 512, more: false, waited: 0 };

    /// A batch is about to be packed while so many bytes are under way.
    pub(crate) fn packs(&mut self, in_flight: usize) {
        self.waited = match (self.more, in_flight) {
            (false, _) => self.waited,
            (true, 0) => (self.waited + 2).min(2 * WAITED_ENOUGH),
            (true, _) => self.waited.saturating_sub(1),
        };
    }

    /// What the link carries in bytes a second, as far as it matters to how batches are packed: without end where it
    /// waits for them. The measured rate does not tell: it is that of packing then. 0 if it is not known.
    pub(crate) fn link_rate(&self) -> u64 {
        let is_thin = self.rtt_ms >= THIN_RTT_MS && self.rate < THIN_RATE;
        if self.waited >= WAITED_ENOUGH && !is_thin { u64::MAX } else { self.rate }
    }

    pub(crate) fn acknowledged(&mut self, f: &Flight, now: Instant) {
        self.delivered += f.bytes as u64;
        let took_ms = now.ms_since(f.at).max(1);
        self.rtt_ms = self.rtt_ms.min(took_ms);
        self.acked_at = now;
        let sample = (self.delivered - f.delivered) * 1000 / took_ms;
        // Quick to believe in more, slow to believe in less: one late acknowledgement is jitter.
        self.rate = if sample > self.rate { sample } else { (self.rate * 7 + sample) / 8 };
    }

    /// How long `bytes` may take on a link that has become four times as slow as it was measured. A
    /// fast link may become a slow one at any time; slower than 256 bytes a second is none, where a
    /// minute of silence is the end.
    pub(crate) fn patience_ms(&self, bytes: usize, silence_ms: u64) -> u64 {
        let per_s = |bytes_per_minute: u64| (bytes_per_minute * 1000 / silence_ms.max(1)).max(1);
        let rate = (self.rate / 4).clamp(per_s(PATIENCE_LEAST_BYTES), per_s(PATIENCE_MOST_BYTES));
        bytes as u64 * 1000 / rate
    }

    /// Bytes that may be unacknowledged: about two bandwidth-delay products.
    pub(crate) fn window(&self, min: usize, max: usize) -> usize {
        if self.rate == 0 {
            return min;
        }
        let bdp = self.rate.saturating_mul(self.rtt_ms) / 1000;
        usize::try_from(bdp.saturating_mul(2)).unwrap_or(max).clamp(min, max.max(min))
    }

    /// Whether a batch of about `next` bytes may join the `in_flight` bytes under way. The window holds it too, unless
    /// it is only the second: the queue of a thin link is short, and what does not fit into it is lost there.
    pub(crate) fn has_room(&self, in_flight: usize, next: usize, (min, max): (usize, usize)) -> bool {
        let (window, slack) = (self.window(min, max), next / 8);
        in_flight == 0 || in_flight < window && (in_flight <= next + slack || in_flight + next - slack <= window)
    }

    /// Compressed bytes that one batch should have: `frame_time_ms` of link time.
    pub(crate) fn frame_bytes(&self, frame_time_ms: u64, min: usize, max: usize) -> usize {
        usize::try_from(self.rate.saturating_mul(frame_time_ms) / 1000).unwrap_or(max).clamp(min, max.max(min))
    }
}

#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) generation: u32,
    pub(crate) state: State,
    pub(crate) peer: Option<PeerIdentity>,
    pub(crate) opened: Instant,
    /// It was begun by bytes that may be a recording: no events leave in it.
    pub(crate) unproven: bool,
    /// Codecs that our HELLO offers, as bits: later there may be more time for one, or less.
    pub(crate) offers: u32,
    pub(crate) last_rx: Instant,
    pub(crate) links: u32,
    pub(crate) links_tail: u32,
    pub(crate) stats: SessionStats,
    pub(crate) ended: Option<Ending>,
    /// The runtime has heard `Closed`.
    pub(crate) told: bool,
    /// The runtime has given the connection up, or was told to.
    pub(crate) released: bool,

    // What is to be sent, in the order in which it is.
    pub(crate) hello_due: bool,
    /// Next link to announce.
    pub(crate) announce: u32,
    pub(crate) vector_done: bool,
    /// Streams of third nodes that no entry was told of.
    pub(crate) rest: Rest,
    pub(crate) next_handle: u32,
    pub(crate) pong_due: Option<u64>,
    pub(crate) ping_due: bool,
    pub(crate) credit_owed: usize,
    /// The peer waits for whatever is owed.
    pub(crate) credit_soon: bool,
    /// Some of its links owe the peer a NOHISTORY.
    pub(crate) owes_no_history: bool,
    /// Some of its links may owe the peer a FLOOR.
    pub(crate) owes_floors: bool,
    /// Some of its links may owe the peer a WITHHELD for what damage has taken.
    pub(crate) owes_gaps: bool,
    /// The peer is to hear of events that were refused, or whose places only are here.
    pub(crate) owes_lacks: bool,
    pub(crate) lacks: heapless::Deque<LackDue, LACKS_MAX>,
    /// The peer is to hear how far the parts that it sent have come.
    pub(crate) owes_have: bool,
    pub(crate) acks: Fifo,
    /// When the acknowledgements that are due must go; `FAR` if none are.
    pub(crate) ack_at: Instant,
    /// The peer waits: acknowledge at once.
    pub(crate) ack_soon: bool,
    pub(crate) blocked_due: Option<usize>,
    pub(crate) finishing: bool,
    pub(crate) goodbye_sent: bool,
    /// The peer has nothing more to send; it waits until we have not either.
    pub(crate) peer_goodbye: bool,
    /// It may have to send something again all the same.
    pub(crate) goodbye_open: bool,

    // Sending events.
    pub(crate) hello: Option<Hello>,
    pub(crate) peer_vector_done: bool,
    /// Events may go although the peer has not told its vector yet.
    pub(crate) early: Option<Early>,
    pub(crate) credit: usize,
    /// Credit that the batch at hand needs before it can go.
    pub(crate) needs_credit: usize,
    pub(crate) lanes: [Fifo; Lane::ALL.len()],
    pub(crate) turns: u32,
    /// What goes in parts, by lane.
    pub(crate) cuts: [Option<Cut>; Lane::ALL.len()],
    pub(crate) read: Option<Reading>,
    /// The link whose history was read for its next batch.
    pub(crate) primed: Option<u32>,
    pub(crate) flights: heapless::Deque<Flight, FLIGHTS_MAX>,
    pub(crate) in_flight: usize,
    pub(crate) pace: Pace,

    // Receiving.
    pub(crate) rx: arena::Chain,
    pub(crate) rx_head: Option<FrameHead>,
    /// A whole batch waits in `rx` for room in the log.
    pub(crate) stalled: bool,
    /// So many of its events have found room.
    pub(crate) taken: u64,
    /// The history that it waits for.
    pub(crate) lacking: Option<Lacking>,
    /// The runtime was told `Paused`.
    pub(crate) paused: bool,
    pub(crate) rx_credit: usize,
    pub(crate) rx_extra: usize,
    /// When credit was lent, or bytes of a batch last came on the strength of it.
    pub(crate) loan_used: Instant,
    pub(crate) wants_extra: usize,
    pub(crate) peer_handles: u32,
    pub(crate) rx_link: u32,

    /// When the peer was asked whether it is there, if it has said nothing since.
    pub(crate) pinged: Option<Instant>,
    pub(crate) caught_up_told: bool,
    /// The runtime has not heard of it yet.
    pub(crate) caught_up_due: bool,
    /// A stream has two histories here and there; the peer has yet to be told.
    pub(crate) forked: bool,
    pub(crate) ready: Hook,
    pub(crate) waiting: Hook,
    pub(crate) parcel_waiter: Hook,
    pub(crate) resumed: Hook,
    pub(crate) reader: Hook,
    pub(crate) event: Hook,
}

impl Session {
    /// Takes these out of what is under way. `at`: they have arrived, as was heard then.
    pub(crate) fn take_flights(&mut self, at: Option<Instant>, these: impl Fn(&Flight) -> bool) {
        for _ in 0..self.flights.len() {
            let Some(f) = self.flights.pop_front() else { break };
            if !these(&f) {
                let _ = self.flights.push_back(f);
                continue;
            }
            self.in_flight = self.in_flight.saturating_sub(f.bytes);
            if let Some(at) = at {
                self.pace.acknowledged(&f, at);
            }
        }
    }
}

/// Memory for one session.
#[derive(Debug)]
pub struct SessionSlot(pub(crate) Session);

impl SessionSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: SessionSlot = SessionSlot(Session::new(0));
}

impl Clone for SessionSlot {
    fn clone(&self) -> Self {
        Self::EMPTY
    }
}

impl Session {
    pub(crate) const fn new(generation: u32) -> Session {
        Session {
            generation,
            state: State::Free,
            peer: None,
            opened: Instant(0),
            unproven: false,
            offers: 0,
            last_rx: Instant(0),
            links: NONE,
            links_tail: NONE,
            stats: SessionStats {
                sent: 0,
                acknowledged: 0,
                received: 0,
                duplicates: 0,
                resumed_at: 0,
                blocked: 0,
                withheld: 0,
                placed: 0,
                bytes_in: 0,
                bytes_out: 0,
                sample_differs: false,
                retry_after_s: 0,
            },
            ended: None,
            told: false,
            released: false,
            hello_due: true,
            announce: NONE,
            vector_done: false,
            rest: Rest::NONE,
            next_handle: 0,
            pong_due: None,
            ping_due: false,
            credit_owed: 0,
            credit_soon: false,
            owes_no_history: false,
            owes_floors: false,
            owes_gaps: false,
            owes_lacks: false,
            lacks: heapless::Deque::new(),
            owes_have: false,
            acks: Fifo::EMPTY,
            ack_at: Instant::FAR,
            ack_soon: false,
            blocked_due: None,
            finishing: false,
            goodbye_sent: false,
            peer_goodbye: false,
            goodbye_open: false,
            hello: None,
            peer_vector_done: false,
            early: None,
            credit: 0,
            needs_credit: 0,
            lanes: [Fifo::EMPTY; Lane::ALL.len()],
            turns: 0,
            cuts: [None; Lane::ALL.len()],
            read: None,
            primed: None,
            flights: heapless::Deque::new(),
            in_flight: 0,
            pace: Pace::START,
            rx: arena::Chain::EMPTY,
            rx_head: None,
            stalled: false,
            taken: 0,
            lacking: None,
            paused: false,
            rx_credit: 0,
            rx_extra: 0,
            loan_used: Instant(0),
            wants_extra: 0,
            peer_handles: 0,
            rx_link: NONE,
            pinged: None,
            caught_up_told: false,
            caught_up_due: false,
            forked: false,
            ready: Hook::IDLE,
            waiting: Hook::IDLE,
            parcel_waiter: Hook::IDLE,
            resumed: Hook::IDLE,
            reader: Hook::IDLE,
            event: Hook::IDLE,
        }
    }
}

/// Memory for one pair of session and stream.
#[derive(Clone, Debug)]
pub struct LinkSlot(pub(crate) Link);

impl LinkSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: LinkSlot = LinkSlot(Link::FREE);
}

#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) session: u32,
    pub(crate) stream: u32,
    /// Next link of the session, or of the free list.
    pub(crate) next: u32,
    pub(crate) next_of_stream: u32,
    pub(crate) read: Option<ReadGrant>,
    pub(crate) write: Option<WriteGrant>,
    /// The number by which we told the peer of the stream.
    pub(crate) handle: u32,
    /// The number by which the peer told us.
    pub(crate) peer_handle: u32,
    /// How far the peer holds it durably, without a gap before it. Before it has told its vector: how far it is
    /// believed to (docs/PROTOCOL.md#early-1).
    pub(crate) peer_have: u64,
    /// First and last event of the run that it holds behind a gap of its own; zeros if there is none.
    pub(crate) peer_beyond: (u64, u64),
    /// What the peer says its chain is there, until it has been compared with ours.
    pub(crate) peer_tag: Option<ChainTag>,
    /// Highest seq sent, or held by the peer.
    pub(crate) sent: u64,
    /// Highest seq acknowledged to the peer.
    pub(crate) acked: u64,
    /// It was told what is gone here of the stream.
    pub(crate) floor_told: u64,
    /// It has told what is gone there.
    pub(crate) floor_came: u64,
    /// The peer lacks the history of it: none is used.
    pub(crate) no_history: bool,
    /// No batch refers to an event before this one: some of them are not at both ends.
    pub(crate) refers_min: u64,
    /// The peer is to hear which events of the stream are not here.
    pub(crate) owes_lacks: bool,
    /// What the peer has told before its vector that it lacks.
    pub(crate) lacks_told: Option<(u64, u64)>,
    /// Up to here the peer, a hub, holds all but that, if it holds the same history: what it lacked before has come.
    /// 0: nothing to be settled.
    pub(crate) settles_to: u64,
    /// First event that the last batch referred to, if the codec keeps a state; 0 if there was none.
    pub(crate) refers_from: u64,
    /// A batch has gone on from the one before it, and referred to more than what a peer reads from its log.
    pub(crate) went_on: bool,
    /// The peer has lost its state meanwhile: none goes on so far any more.
    pub(crate) bounded: bool,
    /// How often the peer was told that the history is lacking here.
    pub(crate) told_lacking: u8,
    /// The peer was told that the history is lacking here: its batches are dropped until it knows.
    pub(crate) dropping: bool,
    /// A batch of the peer's was dropped, and it has not come again yet.
    pub(crate) dropped: bool,
    /// NOHISTORY is to be sent.
    pub(crate) owes_no_history: bool,
    /// It cannot be sent on: damaged here.
    pub(crate) blocked: bool,
    /// The peer holds another history of it.
    pub(crate) forked: bool,
    pub(crate) ack: Hook,
    pub(crate) turn: Hook,
}

impl Link {
    pub(crate) const FREE: Link = Link {
        session: NONE,
        stream: NONE,
        next: NONE,
        next_of_stream: NONE,
        read: None,
        write: None,
        handle: NONE,
        peer_handle: NONE,
        peer_have: 0,
        peer_beyond: (0, 0),
        peer_tag: None,
        sent: 0,
        acked: 0,
        floor_told: 0,
        floor_came: 0,
        no_history: false,
        refers_min: 0,
        owes_lacks: false,
        lacks_told: None,
        settles_to: 0,
        refers_from: 0,
        went_on: false,
        bounded: false,
        told_lacking: 0,
        dropping: false,
        dropped: false,
        owes_no_history: false,
        blocked: false,
        forked: false,
        ack: Hook::IDLE,
        turn: Hook::IDLE,
    };

    /// The peer has shown that it holds `first..=last`. What lies behind a gap does not fill it
    /// (docs/PROTOCOL.md#gap-3).
    pub(crate) fn peer_holds(&mut self, first: u64, last: u64) {
        if first > self.peer_have + 1 && !has(Bug::GapTakenForFilled) {
            mark!("link.beyond_peers_gap");
            let joins = (self.peer_beyond.0..=self.peer_beyond.1.saturating_add(1)).contains(&first);
            let first = if joins { self.peer_beyond.0 } else { first };
            self.peer_beyond = (first, last.max(self.peer_beyond.1));
            return;
        }
        self.peer_have = self.peer_have.max(last);
        let (from, to) = self.peer_beyond;
        if from <= self.peer_have + 1 {
            self.peer_have = self.peer_have.max(to);
            self.peer_beyond = (0, 0);
        }
        self.sent = self.sent.max(self.peer_have);
    }

    /// The last event that the peer is known to hold.
    pub(crate) fn peer_top(&self) -> u64 {
        self.peer_have.max(self.peer_beyond.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_waits_for_batches_is_fast_whatever_was_measured() {
        let mut pace = Pace { rate: 9_000, rtt_ms: 5, more: true, ..Pace::START };
        // Two batches fill the smallest window, so every second one finds nothing under way.
        for in_flight in [4096, 0, 4096, 0] {
            pace.packs(in_flight);
            assert_eq!(pace.link_rate(), 9_000);
        }
        pace.packs(4096);
        pace.packs(0);
        assert_eq!(pace.link_rate(), u64::MAX);
        (0..8).for_each(|_| pace.packs(4096));
        assert_eq!(pace.link_rate(), 9_000);
        // One event now and then is no sign of anything.
        pace.more = false;
        (0..8).for_each(|_| pace.packs(0));
        assert_eq!(pace.link_rate(), 9_000);
    }

    #[test]
    fn a_thin_link_is_thin_however_often_lost_packets_bring_acknowledgements_together() {
        let mut pace = Pace { rate: 9_000, rtt_ms: 600, more: true, ..Pace::START };
        (0..20).for_each(|_| pace.packs(0));
        assert_eq!(pace.link_rate(), 9_000);
        pace.rate = 10_000;
        assert_eq!(pace.link_rate(), u64::MAX);
    }

    #[test]
    fn the_window_grows_with_what_is_acknowledged_and_settles_at_the_links_rate() {
        let mut pace = Pace::START;
        let (mut now, min, max) = (Instant(0), 8192, 1 << 20);
        assert_eq!(pace.window(min, max), min);
        // A link of 3,000 bytes per second and 600 ms: each batch of 1,500 bytes takes 500 ms more.
        for _ in 0..40 {
            let sent = Flight { link: 0, last_seq: 0, upto: 0, bytes: 1500, at: now, delivered: pace.delivered };
            now = now.after_ms(1100);
            pace.acknowledged(&sent, now);
        }
        assert!((1300..3000).contains(&pace.rate), "{}", pace.rate);
        assert_eq!(pace.window(min, max), min);
        assert!((650..1500).contains(&pace.frame_bytes(500, 100, max)));
    }

    #[test]
    fn the_third_batch_waits_until_the_window_holds_it_and_the_second_goes_in_any_case() {
        let bounds = (8192, 1 << 20);
        let rooms = |pace: Pace, next, all: [usize; 5]| all.map(|bytes| pace.has_room(bytes, next, bounds));
        // Nothing is known yet: 8 KiB, and batches of 4.
        let all = [0, 4000, 4600, 5000, 8192];
        assert_eq!(rooms(Pace::START, 4096, all), [true, true, true, false, false]);
        // Batches that take longer than a round trip: two of them keep the link busy.
        let far = Pace { rate: 100_000, rtt_ms: 300, ..Pace::START };
        let all = [0, 50_000, 56_000, 59_000, 100_000];
        assert_eq!(rooms(far, 50_000, all), [true, true, true, false, false]);
    }
}
