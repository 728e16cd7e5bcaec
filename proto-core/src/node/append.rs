//! Local events, and what can be asked of a node.

use super::Node;
use super::commit::NoRoom;
use crate::code::Code;
use crate::event::{Event, flags};
use crate::hlc::Hlc;
use crate::id::{Incarnation, Lane, StreamKey};
use crate::log::{Parent, event_bytes_max};
use crate::planted::{Bug, has, mark};
use crate::session::{SessionId, SessionStats};
use crate::streams::FrontierEntry;
use crate::time::Now;

/// Why a stream of this node was left, as its successor's declaration says.
pub(super) const LEFT_AFTER_ROLLBACK: u8 = 1;
pub(super) const LEFT_AFTER_FORK: u8 = 2;

/// A local event's place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Ticket {
    /// The group it is in: it is durable when [`Node::durable_group`] has reached this.
    pub group: u64,
    /// Its sequence number in this node's stream of the lane.
    pub seq: u64,
    /// Its stamp.
    pub hlc: Hlc,
}

/// Why a local event was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum AppendError {
    /// The disk is behind: let it work (poll effects), then try again.
    Busy,
    /// Larger than [`Limits::event_bytes`](crate::limits::Limits::event_bytes).
    TooLarge,
    /// No space for another segment.
    DiskFull,
    /// The disk failed earlier; nothing can be written until the log is opened again.
    Storage(Code),
    /// No memory for another stream.
    Limit,
}

impl AppendError {
    /// The code to report.
    #[must_use]
    pub fn code(self) -> Code {
        match self {
            AppendError::Busy => Code::Busy,
            AppendError::TooLarge => Code::TooLarge,
            AppendError::DiskFull => Code::DiskFull,
            AppendError::Storage(code) => code,
            AppendError::Limit => Code::Limit,
        }
    }
}

impl From<NoRoom> for AppendError {
    fn from(n: NoRoom) -> Self {
        match n {
            NoRoom::Busy => AppendError::Busy,
            NoRoom::DiskFull => AppendError::DiskFull,
            NoRoom::Failed(code) => AppendError::Storage(code),
        }
    }
}

impl Node<'_> {
    /// Takes an event of this node into the group that fills. It is stamped now and is durable,
    /// and may be sent, when its group is.
    ///
    /// # Errors
    /// [`AppendError`]; the event was not taken then.
    pub fn append(&mut self, now: Now, lane: Lane, kind: u16, payload: &[u8]) -> Result<Ticket, AppendError> {
        self.at(now);
        if payload.len() > self.limits.event_bytes {
            return Err(AppendError::TooLarge);
        }
        self.reserve(event_bytes_max(payload.len()))?;
        let n = self.own_stream(lane)?;
        let hlc = self.clock.tick(self.now.wall_ms);
        let unsynced = self.now.wall_ms < self.config.wall_floor_ms && !has(Bug::UnsyncedUnflagged);
        if unsynced {
            mark!("append.unsynced");
        }
        let event = Event { hlc, kind, flags: if unsynced { flags::UNSYNCED } else { 0 }, payload };
        let stream = self.streams.at(n).ok_or(AppendError::Limit)?;
        let top = if has(Bug::NumberFromDurable) { stream.durable.top } else { stream.now.top };
        let seq = top.seq + 1;
        self.put_event(n, seq, &top.chain, &event)?;
        Ok(Ticket { group: self.commit.group(), seq, hlc })
    }

    /// This node's stream of a lane, made when it is first needed.
    pub(super) fn own_stream(&mut self, lane: Lane) -> Result<u32, AppendError> {
        if let Some(n) = self.own[lane as usize] {
            return Ok(n);
        }
        let key = StreamKey { node: self.config.name, incarnation: self.incarnation, lane };
        let n = match self.streams.find(&key) {
            Some(n) => n,
            None => self.streams.add(key).map_err(|_| AppendError::Limit)?,
        };
        if let Some(s) = self.streams.at_mut(n) {
            s.own = true;
        }
        self.own[lane as usize] = Some(n);
        Ok(n)
    }

    /// A peer holds `seq` events of stream `n`. If that is more than we have and the stream is one
    /// that we write, our log has lost its tail: the next number is taken, and must never be given
    /// again. So from this moment on events are written in a new incarnation.
    pub(super) fn notice_lost_tail(&mut self, n: u32, seq: u64) {
        let Some(s) = self.streams.at(n) else { return };
        let (key, top) = (s.key, s.now.top.seq);
        if seq > top && !has(Bug::LostTailIgnored) && self.leave_incarnation(key, top, LEFT_AFTER_ROLLBACK) {
            mark!("node.left_after_rollback");
            self.tail_lost = Some(key);
        }
    }

    /// If `key` is a stream that this node writes: from now on it writes in a new incarnation.
    pub(super) fn leave_incarnation(&mut self, key: StreamKey, seq: u64, reason: u8) -> bool {
        if key.node != self.config.name || key.incarnation != self.incarnation {
            return false;
        }
        self.parent = Some(Parent { incarnation: key.incarnation, seq, reason });
        self.incarnation = Incarnation::new(self.rng.draw_u64());
        self.own = [None; Lane::ALL.len()];
        // Declared at once: a node that crashes before its next event must not go back. If there
        // is no room now, the first event declares it.
        if !has(Bug::NewNameUndeclared)
            && self.reserve(0).is_ok()
            && let Ok(new) = self.own_stream(key.lane)
        {
            let _ = self.declare(new);
        }
        true
    }

    /// The last group that is durable; see [`Ticket::group`].
    #[must_use]
    pub fn durable_group(&self) -> u64 {
        self.commit.durable()
    }

    /// The group that fills: everything appended so far is durable when
    /// [`Node::durable_group`] has reached the returned number.
    #[must_use]
    pub fn last_group(&self) -> u64 {
        self.commit.last_used()
    }

    /// The code of a storage failure, if there was one. It lasts until the log is opened again.
    #[must_use]
    pub fn storage_failed(&self) -> Option<Code> {
        self.commit.failed()
    }

    /// The version vector: what is durable here of each stream.
    pub fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.streams.frontier()
    }

    /// All streams that hold something durable, with their numbers.
    pub fn streams(&self) -> impl Iterator<Item = (u32, FrontierEntry)> {
        self.streams.all().filter(|(_, s)| s.durable.top.seq > 0).map(|(n, s)| (n, s.entry()))
    }

    /// What this node was configured with.
    #[must_use]
    pub fn limits(&self) -> &crate::limits::Limits {
        &self.limits
    }

    /// Sets the deployment, which a node learns when its certificate is signed, perhaps long after
    /// it has begun to write.
    pub fn set_deployment(&mut self, deployment: u64) {
        self.config.deployment = deployment;
    }

    /// The stream with this number (see [`RunAt::stream`](crate::recovery::RunAt::stream)).
    #[must_use]
    pub fn stream(&self, number: u32) -> Option<FrontierEntry> {
        self.streams.at(number).map(crate::streams::Stream::entry)
    }

    /// What a live session has done so far.
    #[must_use]
    pub fn stats(&self, id: SessionId) -> Option<SessionStats> {
        self.session(id).ok().map(|i| self.sessions[i as usize].0.stats)
    }

    /// The incarnation in which local events are written.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }
}
