//! The node: one object that drives one session or ten thousand.
//!
//! Inputs are verbs and never block; outputs are polled, each by whoever has room for it: the disk
//! polls [`Node::poll_effect`], a writable socket [`Node::poll_transmit`]. Any order of calls is
//! legal, spurious ones are harmless, and nothing here knows a clock, a socket or a file.
//!
//! | file | story |
//! |---|---|
//! | `memory` | what is lent or allocated once |
//! | `open` | sessions begin and end |
//! | `receive` | bytes from a peer become frames |
//! | `control` | frames that are not events |
//! | `ingest` | a batch is checked and goes into the log |
//! | `append` | local events, read-only state, statistics |
//! | `commit` | commit groups, segments, durability |
//! | `transmit` | frames for a peer |
//! | `batch` | which events go next, and packing them |
//! | `history` | earlier events to compress against, at both ends |
//! | `parts` | large batches go in parts |
//! | `parcels` | parts from a peer become batches |
//! | `rest` | many streams told by a digest |
//! | `refuse` | events that this node does not take |
//! | `repair` | events that damage has taken, and records of it |
//! | `withhold` | events that do not come, and what stands in their places |
//! | `timers` | deadlines |

mod append;
mod batch;
mod commit;
mod control;
mod early;
mod expire;
mod history;
mod ingest;
mod memory;
mod open;
mod parcels;
mod parts;
mod receive;
mod refuse;
mod repair;
mod rest;
mod timers;
mod transmit;
mod withhold;

use crate::accept::AcceptanceRef;
use crate::arena::Arena;
use crate::code::Code;
use crate::codec::Codecs;
use crate::fifo::Fifo;
use crate::history::Histories;
use crate::hlc::Clock;
use crate::id::{Incarnation, Lane, StreamKey};
use crate::limits::{Config, Limits};
use crate::log::DataKey;
use crate::mem::Lent;
use crate::outbox::Outbox;
use crate::parcels::Parcels;
use crate::planted::{Bug, has, mark};
use crate::policy::ReadGrant;
use crate::recovery::Recovered;
use crate::session::{LinkSlot, Session, SessionSlot};
use crate::streams::StreamTable;
use crate::time::Now;
use crate::timer::Timers;

pub use crate::session::{EndedBy, Ending, SessionId, SessionStats};
pub use append::{AppendError, Ticket};
pub use commit::{Completion, Effect, LogPosition, WriteFault};
pub use memory::Memory;
pub use open::OpenError;
pub use receive::{Flow, Received};
pub use repair::Loss;
pub(crate) use rest::Rest;
pub use timers::Reason;
pub use transmit::{ReadFault, ReadRequest, Transmit, UnknownSession, refusal};
pub use withhold::WithheldEvents;

/// Something that happened, without payload. Told once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The session has nothing left to send, everything sent was acknowledged as durable, and
    /// everything that the peer told of has arrived and is durable here. Told again after new work, and before a clean end
    /// if it was not.
    CaughtUp {
        /// Which.
        session: SessionId,
        /// What it did.
        stats: SessionStats,
    },
    /// The session is over. Exactly once for each `open`. There may be a last frame to send: poll
    /// [`Node::poll_transmit`] until it says [`Transmit::Close`], or call [`Node::close`]; then the
    /// id is unknown and its place free.
    Closed {
        /// Which.
        session: SessionId,
        /// Why.
        ending: Ending,
        /// What it did.
        stats: SessionStats,
    },
    /// Two histories exist for a stream.
    Fork {
        /// Which.
        stream: StreamKey,
    },
    /// A peer had events of this node that its own log had lost; they were fetched, and the node
    /// goes on in a new incarnation.
    TailLost {
        /// Which.
        stream: StreamKey,
    },
    /// Events that one end holds and the other does not; what follows them goes on. Told once for each.
    Withheld(WithheldEvents),
    /// The disk failed; the node acknowledges nothing from now on.
    StorageFailed {
        /// [`Code::Storage`], [`Code::DiskFull`] or [`Code::ReadOnly`].
        code: Code,
    },
}

/// What the node is made of apart from its memory.
#[derive(Debug)]
pub struct Setup<'m> {
    /// Who it is.
    pub config: Config,
    /// How large it may be.
    pub limits: Limits,
    /// Its memory, sized by the limits.
    pub memory: Memory<'m>,
    /// Compression.
    pub codecs: Codecs<'m>,
    /// The log's data key and its number.
    pub key: (u32, DataKey),
    /// 32 random bytes, fresh for each start.
    pub seed: [u8; 32],
}

/// Words about withheld events that wait to be heard, at most.
const WITHHELD_TOLD_MAX: usize = 32;

/// See the [module](self).
#[derive(Debug)]
pub struct Node<'m> {
    config: Config,
    limits: Limits,
    now: Now,
    clock: Clock,
    rng: Rng,
    streams: StreamTable<'m>,
    /// This node's streams by lane, once they exist.
    own: [Option<u32>; Lane::ALL.len()],
    incarnation: Incarnation,
    /// What the next own stream continues.
    parent: Option<crate::log::Parent>,
    sessions: Lent<'m, SessionSlot>,
    links: Lent<'m, LinkSlot>,
    free_links: u32,
    arena: Arena<'m>,
    /// One whole incoming frame.
    frame: Lent<'m, u8>,
    /// One batch before compression.
    scratch: Lent<'m, u8>,
    codecs: Codecs<'m>,
    /// Which events it takes.
    rule: Option<AcceptanceRef<'m>>,
    /// What one of them knows before the first event.
    sample: Option<u32>,
    histories: Histories<'m>,
    parcels: Parcels<'m>,
    outbox: Outbox<'m>,
    /// One whole parcel.
    parcel: Lent<'m, u8>,
    timers: Timers<'m>,
    commit: commit::Commit<'m>,
    receipts: Fifo,
    ready: Fifo,
    /// Sessions with a whole batch that waits for room in the log.
    waiting: Fifo,
    /// Sessions with a part of a parcel that waits for room to be collected in.
    parcel_waiters: Fifo,
    /// There is room for another parcel.
    parcel_freed: bool,
    resumed: Fifo,
    /// Sessions with a batch whose history is to be read from the log.
    readers: Fifo,
    events: Fifo,
    fork: Option<StreamKey>,
    tail_lost: Option<StreamKey>,
    withheld: heapless::Deque<WithheldEvents, WITHHELD_TOLD_MAX>,
    storage_told: bool,
    extra_holder: Option<u32>,
    tokens: u64,
}

impl<'m> Node<'m> {
    /// A node that continues what was recovered from its log.
    ///
    /// # Errors
    /// [`Code::Config`] if the limits contradict one another or the memory is smaller than they say.
    pub fn new(setup: Setup<'m>, recovered: Recovered<'m>, now: Now) -> Result<Self, Code> {
        let Setup { config, limits, memory, mut codecs, key, seed } = setup;
        let sample = codecs.sample();
        limits.check()?;
        memory.check(&limits)?;
        let mut rng = Rng { seed, drawn: 0 };
        let newest = if has(Bug::ClockNotRestored) { crate::hlc::Hlc::ZERO } else { recovered.clock };
        let clock = Clock::new(newest, config.hlc_bound_ms, config.hlc_tick_ms);
        // A log that was written on another machine is a copy, and one whose end is damaged may have
        // given out its next numbers already: neither may go on in the same name
        // (docs/PROTOCOL.md#incarnation-2).
        let at_risk = recovered.own_at_risk() && !has(Bug::DamagedEndContinued);
        if at_risk {
            mark!("node.end_at_risk");
        }
        let same_machine = |machine: u64| machine == config.fingerprint || has(Bug::FingerprintIgnored);
        if recovered.own.is_some_and(|(_, machine)| !same_machine(machine)) {
            mark!("node.copied");
        }
        let kept = recovered.own.filter(|(_, machine)| same_machine(*machine) && !at_risk);
        let incarnation = kept.map_or_else(|| Incarnation::new(rng.draw_u64()), |(i, _)| i);
        let Memory { sessions, mut links, arena, arena_next, frame, scratch, timers, .. } = memory;
        let Memory { histories, history, parcels, parcel_bytes, parcel_next, .. } = memory;
        let Memory { outbox, outbox_bytes, parcel, groups, .. } = memory;
        let count = links.len();
        for (i, l) in links.iter_mut().enumerate() {
            l.0.next = if i + 1 < count { i as u32 + 1 } else { crate::fifo::NONE };
        }
        let streams = recovered.streams;
        let own = Lane::ALL.map(|lane| streams.find(&StreamKey { node: config.name, incarnation, lane }));
        Ok(Self {
            commit: commit::Commit::new(groups, &limits, key, recovered.tail, recovered.refused),
            config,
            limits,
            now,
            clock,
            rng,
            own,
            streams,
            incarnation,
            parent: None,
            sessions,
            links,
            free_links: if count == 0 { crate::fifo::NONE } else { 0 },
            arena: Arena::new(arena, arena_next),
            frame,
            scratch,
            codecs,
            rule: None,
            sample,
            histories: Histories::new(histories, history, limits.history_bytes),
            parcels: Parcels::new(parcels, parcel_bytes, parcel_next),
            outbox: Outbox::new(outbox, outbox_bytes, limits.frame_bytes + 8),
            parcel,
            timers: Timers::new(timers),
            receipts: Fifo::EMPTY,
            ready: Fifo::EMPTY,
            waiting: Fifo::EMPTY,
            parcel_waiters: Fifo::EMPTY,
            parcel_freed: false,
            resumed: Fifo::EMPTY,
            readers: Fifo::EMPTY,
            events: Fifo::EMPTY,
            fork: None,
            tail_lost: None,
            withheld: heapless::Deque::new(),
            storage_told: false,
            extra_holder: None,
            tokens: 0,
        })
    }

    /// Takes the time of a call. Time never goes back here, whatever the caller's clock does.
    fn at(&mut self, now: Now) {
        self.now = Now { at: now.at.max(self.now.at), wall_ms: now.wall_ms };
        self.retry_parcels();
    }

    fn session(&self, id: SessionId) -> Result<u32, UnknownSession> {
        match self.sessions.get(id.index as usize) {
            Some(s) if s.0.generation == id.generation && s.0.state != crate::session::State::Free => Ok(id.index),
            _ => Err(UnknownSession),
        }
    }

    fn s(&mut self, i: u32) -> &mut Session {
        &mut self.sessions[i as usize].0
    }

    fn id(&self, i: u32) -> SessionId {
        SessionId { index: i, generation: self.sessions[i as usize].0.generation }
    }

    fn mark_ready(&mut self, i: u32) {
        self.ready.push(&mut self.sessions, i, |s| &mut s.0.ready);
    }

    fn mark_event(&mut self, i: u32) {
        self.events.push(&mut self.sessions, i, |s| &mut s.0.event);
    }

    /// The indices of a session's links, in the order of their handles.
    fn links_of(&self, i: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.sessions[i as usize].0.links;
        core::iter::from_fn(move || {
            let l = self.links.get(at as usize)?;
            Some(core::mem::replace(&mut at, l.0.next))
        })
    }

    /// A session that has something to send, or must close. Each is told once until something new
    /// comes up, so poll its [`poll_transmit`](Node::poll_transmit) until it is idle.
    pub fn poll_ready(&mut self) -> Option<SessionId> {
        self.ready.pop(&mut self.sessions, |s| &mut s.0.ready).map(|i| self.id(i))
    }

    /// A session that was told [`Flow::Paused`] and can take bytes again.
    pub fn poll_resumed(&mut self) -> Option<SessionId> {
        let i = self.resumed.pop(&mut self.sessions, |s| &mut s.0.resumed)?;
        Some(self.id(i))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(code) = self.commit.failed().filter(|_| !self.storage_told) {
            self.storage_told = true;
            return Some(Event::StorageFailed { code });
        }
        if let Some(stream) = self.fork.take() {
            return Some(Event::Fork { stream });
        }
        if let Some(stream) = self.tail_lost.take() {
            return Some(Event::TailLost { stream });
        }
        if let Some(event) = self.next_withheld() {
            return Some(event);
        }
        loop {
            let i = self.events.pop(&mut self.sessions, |s| &mut s.0.event)?;
            let (session, s) = (self.id(i), &self.sessions[i as usize].0);
            let stats = s.stats;
            let level = core::mem::take(&mut self.s(i).caught_up_due);
            let s = &self.sessions[i as usize].0;
            match s.ended {
                // Both may have come with the same bytes.
                Some(Ending { code: None, .. }) if level => {
                    self.mark_event(i);
                    return Some(Event::CaughtUp { session, stats });
                }
                Some(ending) => {
                    if !core::mem::replace(&mut self.s(i).told, true) && has(Bug::ClosedTwice) {
                        self.mark_event(i);
                        return Some(Event::Closed { session, ending, stats });
                    }
                    self.recycle(i);
                    return Some(Event::Closed { session, ending, stats });
                }
                None if s.caught_up_told => return Some(Event::CaughtUp { session, stats }),
                // New work came before this was heard.
                None => {}
            }
        }
    }
}

/// Random numbers from the seed: BLAKE3 keyed with it, over a counter.
#[derive(Clone)]
struct Rng {
    seed: [u8; 32],
    drawn: u64,
}

impl core::fmt::Debug for Rng {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Rng")
    }
}

impl Rng {
    /// 32 bytes that no other call and, with a fresh seed, no other node gets. `mix` goes in, so
    /// that even a seed that repeats (no entropy at early boot) does not repeat a salt.
    fn draw(&mut self, mix: &[u8]) -> [u8; 32] {
        self.drawn += 1;
        let mut h = blake3::Hasher::new_keyed(&self.seed);
        h.update(&self.drawn.to_le_bytes());
        h.update(mix);
        *h.finalize().as_bytes()
    }

    fn draw_u64(&mut self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.draw(b"u64");
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

/// A grant that was given when the link was made; links without one are not read.
fn granted(link: &LinkSlot) -> Option<ReadGrant> {
    link.0.read
}
