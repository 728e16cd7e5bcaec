//! The streams that a node knows: its version vector, with gaps, before and after fsync.
//!
//! Per stream there are three marks: what has been accepted (`now`), what was in the group that was
//! sealed last (`sealed`), and what is durable. Only `durable` is ever shown to a peer.

use crate::code::Code;
use crate::event::{Chain, ChainTag};
use crate::fifo::{Hook, NONE};
use crate::hlc::Hlc;
use crate::id::{NodeName, StreamKey};
use crate::mem::Lent;
use crate::planted::{Bug, has, mark};

/// A place in a stream: everything up to `seq`, whose chain hash is `chain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Sequence number, 0 before the first event.
    pub seq: u64,
    /// Chain hash up to there.
    pub chain: Chain,
}

/// How far a stream is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Highest position without a gap before it.
    pub(crate) have: Position,
    /// Highest position at all; equal to `have` unless damage left a gap.
    pub(crate) top: Position,
    /// The last missing position, where `top` is beyond `have`.
    pub(crate) gap_end: Option<Position>,
}

impl Mark {
    /// Everything up to `at`.
    pub(crate) fn whole(at: Position) -> Self {
        Self { have: at, top: at, gap_end: None }
    }
}

/// Memory for one stream.
#[derive(Clone, Debug)]
pub struct StreamSlot {
    pub(crate) stream: Option<Stream>,
    /// Place among the streams whose acknowledgement is to be noted in the log.
    pub(crate) receipt: Hook,
    /// Membership in the groups being filled and written.
    pub(crate) group: [Hook; 2],
}

impl StreamSlot {
    /// An unused slot, to fill memory with.
    pub const EMPTY: StreamSlot = StreamSlot { stream: None, receipt: Hook::IDLE, group: [Hook::IDLE; 2] };

    /// Where membership in the groups of this parity is kept.
    pub(crate) fn group_hook(parity: usize) -> fn(&mut StreamSlot) -> &mut Hook {
        if parity == 0 { |s| &mut s.group[0] } else { |s| &mut s.group[1] }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) key: StreamKey,
    /// Next stream in the same bucket of the name table.
    next_in_bucket: u32,
    pub(crate) now: Mark,
    pub(crate) sealed: Mark,
    pub(crate) durable: Mark,
    /// Stamp of the event at `now.top`.
    pub(crate) last_hlc: Hlc,
    /// Written by this node itself.
    pub(crate) own: bool,
    /// Damage in the log may have taken its end.
    pub(crate) end_at_risk: bool,
    /// Everything up to here was removed from the log on purpose; (0, start) if nothing was.
    pub(crate) floor: Position,
    /// Some of what lies up to the floor was never here: its source had removed it.
    pub(crate) skipped: bool,
    /// Among these are events that are not here: only their places are.
    pub(crate) withheld: Option<(u64, u64)>,
    /// The gap is there only because withheld events are asked for again: the log holds all of it, as events or places.
    pub(crate) asked: bool,
    /// Among these own events are some that a hub lacks although it has acknowledged what follows them.
    pub(crate) lacks: Option<(u64, u64)>,
    /// That is to be noted in the log: it has changed.
    pub(crate) lack_changed: bool,
    /// A hub has acknowledged it durably up to here, and which one.
    pub(crate) acked: u64,
    pub(crate) acked_by: Option<NodeName>,
    /// A session ended with some of it under way: nobody here knows how far a hub holds it.
    pub(crate) in_doubt: bool,
    /// Index in the dictionary of the group `dict_group`.
    pub(crate) dict_group: u64,
    pub(crate) dict_index: u32,
    /// First of the sessions' links to this stream.
    pub(crate) links: u32,
    /// First seq that it has in the group being filled and in the one being written.
    pub(crate) group_first: [u64; 2],
}

impl Stream {
    /// The last seq that can be read without a break from `from` on, durable only.
    pub(crate) fn readable_upto(&self, from: u64) -> u64 {
        let d = if has(Bug::SendBeforeDurable) { &self.sealed } else { &self.durable };
        if from <= self.floor.seq {
            return 0;
        }
        if from <= d.have.seq {
            return d.have.seq;
        }
        match d.gap_end {
            Some(g) if from <= g.seq && !self.asked => 0,
            _ => d.top.seq,
        }
    }

    /// Notes that everything up to `floor` was removed. What is not held whole up to there was not.
    pub(crate) fn raise_floor(&mut self, floor: Position) {
        if floor.seq > self.floor.seq && floor.seq <= self.durable.have.seq {
            self.floor = floor;
        }
    }

    /// Notes that these events are not here.
    pub(crate) fn withhold(&mut self, first: u64, last: u64) {
        widen(&mut self.withheld, first, last);
    }

    /// Notes that these events are here after all.
    pub(crate) fn came(&mut self, first: u64, last: u64) {
        narrow(&mut self.withheld, first, last);
    }

    /// Notes that a hub lacks these own events; true if that is news.
    pub(crate) fn lack(&mut self, first: u64, last: u64) -> bool {
        let before = self.lacks;
        widen(&mut self.lacks, first, last);
        self.lacks != before
    }

    /// Notes that a hub has all own events up to `upto` but the `told` ones; true if that changes anything.
    pub(crate) fn settle_lack(&mut self, upto: u64, told: Option<(u64, u64)>) -> bool {
        let before = self.lacks;
        if let Some((from, to)) = before.filter(|(_, to)| *to <= upto) {
            self.lacks = told.map(|told| (told.0.max(from), told.1.min(to))).filter(|(from, to)| from <= to);
        }
        self.lacks != before
    }

    /// Goes on behind what is gone at its source; nothing if that is here.
    ///
    /// # Errors
    /// [`Code::Fork`] if what lies behind it here has another history.
    pub(crate) fn skip_to(&mut self, floor: Position) -> Result<(), Code> {
        let now = self.now;
        let differs = |at: Position| at.seq == floor.seq && at.chain != floor.chain;
        if differs(now.have) || differs(now.top) || now.gap_end.is_some_and(differs) {
            return Err(Code::Fork);
        }
        if floor.seq <= now.have.seq {
            return Ok(());
        }
        self.now = match now.gap_end {
            Some(gap) if floor.seq < gap.seq => Mark { have: floor, ..now },
            Some(_) if floor.seq <= now.top.seq => Mark::whole(now.top),
            _ => Mark::whole(floor),
        };
        (self.floor, self.skipped) = (floor, true);
        Ok(())
    }

    /// How far its writer may be told that it is here for good.
    pub(crate) fn ackable(&self) -> u64 {
        if has(Bug::AckBeforeDurable) { self.now.have.seq } else { self.durable.have.seq }
    }

    /// Events `from..=to` cannot be read any more. `before` and `last`: the chain hashes up to the event
    /// before them and up to the last of them. Several gaps count as one.
    pub(crate) fn lose(&mut self, (from, before): (u64, Chain), (to, last): (u64, Chain)) {
        self.asked = false;
        for mark in [&mut self.now, &mut self.sealed, &mut self.durable] {
            if from <= mark.have.seq {
                mark.have = Position { seq: from - 1, chain: before };
            }
            let end = Position { seq: to, chain: last };
            mark.gap_end = Some(mark.gap_end.filter(|old| old.seq > to).unwrap_or(end));
        }
    }

    /// Nothing is asked for again any more: what has not come stays a place.
    pub(crate) fn unask(&mut self) {
        if core::mem::take(&mut self.asked) {
            for mark in [&mut self.now, &mut self.sealed, &mut self.durable] {
                *mark = Mark::whole(mark.top);
            }
        }
    }

    /// What is asked for again is gone at its source up to `floor`: that much of it stays places.
    pub(crate) fn unask_upto(&mut self, floor: Position) {
        if self.now.gap_end.is_none_or(|gap| gap.seq <= floor.seq) {
            return self.unask();
        }
        for mark in [&mut self.now, &mut self.sealed, &mut self.durable] {
            if mark.have.seq < floor.seq {
                mark.have = floor;
            }
        }
    }

    /// Moves `now` forward over an event that was just put into a group.
    pub(crate) fn advance(&mut self, to: Position, hlc: Hlc) {
        match self.now.gap_end {
            None => {
                self.now = Mark::whole(to);
                self.last_hlc = hlc;
            }
            Some(_) if to.seq == self.now.top.seq + 1 => {
                mark!("stream.grew_beyond_gap");
                self.now.top = to;
                self.last_hlc = hlc;
            }
            Some(gap) => {
                self.now.have = to;
                if to.seq == gap.seq && !has(Bug::GapClosedShort) {
                    mark!("stream.gap_closed");
                    self.now = Mark::whole(self.now.top);
                }
            }
        }
    }
}

pub(crate) fn widen(range: &mut Option<(u64, u64)>, first: u64, last: u64) {
    let (from, to) = range.unwrap_or((first, last));
    *range = Some((from.min(first), to.max(last)));
}

/// What comes after all comes in order: what lies before the first of it stays as it is.
fn narrow(range: &mut Option<(u64, u64)>, first: u64, last: u64) {
    *range = match *range {
        Some((from, to)) if first <= from && from <= last => (last < to).then_some((last + 1, to)),
        other => other,
    };
}

/// What a version vector says of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontierEntry {
    /// The stream.
    pub key: StreamKey,
    /// Highest contiguous seq that is durable.
    pub have: u64,
    /// Chain hash there, truncated.
    pub tag: ChainTag,
    /// Highest durable seq at all.
    pub top: u64,
    /// Missing range, inclusive, where damage left one.
    pub gap: Option<(u64, u64)>,
    /// Highest seq that a hub has acknowledged durably.
    pub acked: u64,
    /// Everything up to this seq was removed from the log on purpose; 0 if nothing was.
    pub floor: u64,
    /// Some of what lies up to the floor was never here: its source had removed it.
    pub skipped: bool,
    /// Among these are events that are not here, although what follows them is: only their places are.
    pub withheld: Option<(u64, u64)>,
    /// Among these own events are some that a hub lacks although it has acknowledged what follows them.
    pub lacks: Option<(u64, u64)>,
    /// Whether this node writes the stream.
    pub own: bool,
    /// Stamp of the newest event.
    pub last_hlc: Hlc,
    /// Damage may have taken its end: nobody who would know has been heard yet.
    pub end_in_doubt: bool,
}

#[derive(Debug)]
pub(crate) struct StreamTable<'m> {
    pub(crate) slots: Lent<'m, StreamSlot>,
    buckets: Lent<'m, u32>,
    free_from: u32,
}

impl<'m> StreamTable<'m> {
    pub(crate) fn new(slots: Lent<'m, StreamSlot>, mut buckets: Lent<'m, u32>) -> Self {
        buckets.fill(NONE);
        Self { slots, buckets, free_from: 0 }
    }

    fn bucket(&self, name: &NodeName) -> usize {
        // FNV-1a: names come from certificates that our own CA signed, so nobody can choose them
        // to collide.
        let h = name
            .as_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        (h % self.buckets.len().max(1) as u64) as usize
    }

    pub(crate) fn at(&self, i: u32) -> Option<&Stream> {
        self.slots.get(i as usize).and_then(|s| s.stream.as_ref())
    }

    pub(crate) fn at_mut(&mut self, i: u32) -> Option<&mut Stream> {
        self.slots.get_mut(i as usize).and_then(|s| s.stream.as_mut())
    }

    /// All streams of one node.
    pub(crate) fn of_node(&self, name: NodeName) -> impl Iterator<Item = (u32, &Stream)> {
        let mut i = self.buckets.get(self.bucket(&name)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            let s = self.at(i)?;
            let item = (i, s);
            i = s.next_in_bucket;
            Some(item)
        })
        .filter(move |(_, s)| s.key.node == name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u32, &Stream)> {
        self.slots.iter().enumerate().filter_map(|(i, s)| Some((i as u32, s.stream.as_ref()?)))
    }

    pub(crate) fn find(&self, key: &StreamKey) -> Option<u32> {
        self.of_node(key.node).find(|(_, s)| s.key == *key).map(|(i, _)| i)
    }

    /// Adds an empty stream.
    pub(crate) fn add(&mut self, key: StreamKey) -> Result<u32, Code> {
        let free = (self.free_from as usize..self.slots.len()).find(|&i| self.slots[i].stream.is_none());
        let i = free.or_else(|| self.slots.put(StreamSlot::EMPTY)).ok_or(Code::Limit)? as u32;
        self.free_from = i + 1;
        let start = Position { seq: 0, chain: Chain::start(&key) };
        let mark = Mark::whole(start);
        let bucket = self.bucket(&key.node);
        let next_in_bucket = core::mem::replace(&mut self.buckets[bucket], i);
        self.slots[i as usize].stream = Some(Stream {
            key,
            next_in_bucket,
            now: mark,
            sealed: mark,
            durable: mark,
            last_hlc: Hlc::ZERO,
            floor: start,
            skipped: false,
            withheld: None,
            asked: false,
            lacks: None,
            lack_changed: false,
            own: false,
            end_at_risk: false,
            acked: 0,
            acked_by: None,
            in_doubt: false,
            dict_group: 0,
            dict_index: 0,
            links: NONE,
            group_first: [0; 2],
        });
        Ok(i)
    }

    /// Forgets a stream that never got an event: a peer named it and wrote nothing. True if it was one.
    pub(crate) fn forget_if_empty(&mut self, i: u32) -> bool {
        let Some(s) = self.at(i) else { return false };
        if s.own || s.now.top.seq > 0 || s.links != NONE {
            return false;
        }
        mark!("stream.forgotten");
        let (bucket, next) = (self.bucket(&s.key.node), s.next_in_bucket);
        let mut at = self.buckets[bucket];
        if at == i {
            self.buckets[bucket] = next;
        }
        while let Some(s) = self.at_mut(at) {
            at = s.next_in_bucket;
            if at == i {
                s.next_in_bucket = next;
                break;
            }
        }
        self.slots[i as usize].stream = None;
        self.free_from = self.free_from.min(i);
        true
    }

    pub(crate) fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.all().filter(|(_, s)| s.durable.top.seq > 0).map(|(_, s)| s.entry())
    }
}

impl Stream {
    pub(crate) fn entry(&self) -> FrontierEntry {
        let d = &self.durable;
        FrontierEntry {
            key: self.key,
            have: d.have.seq,
            tag: d.have.chain.tag(),
            top: d.top.seq,
            gap: d.gap_end.map(|g| (d.have.seq + 1, g.seq)),
            acked: self.acked,
            floor: self.floor.seq,
            skipped: self.skipped,
            withheld: self.withheld,
            lacks: self.lacks,
            own: self.own,
            last_hlc: self.last_hlc,
            end_in_doubt: self.end_at_risk,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane};

    fn key(name: &str, incarnation: u64) -> StreamKey {
        StreamKey { node: NodeName::new(name).unwrap(), incarnation: Incarnation::new(incarnation), lane: Lane::Normal }
    }

    #[test]
    fn streams_are_found_by_key_and_by_node_even_in_one_bucket() {
        let mut slots = [const { StreamSlot::EMPTY }; 6];
        let mut buckets = [0; 1];
        let mut t = StreamTable::new(Lent::Borrowed(&mut slots), Lent::Borrowed(&mut buckets));
        let ids: alloc::vec::Vec<u32> =
            [("a", 1), ("b", 1), ("a", 2), ("c", 1)].map(|(n, i)| t.add(key(n, i)).unwrap()).into();
        assert_eq!(t.find(&key("a", 2)), Some(ids[2]));
        assert_eq!(t.find(&key("a", 3)), None);
        assert_eq!(t.of_node(NodeName::new("a").unwrap()).count(), 2);
        t.forget_if_empty(ids[1]);
        assert_eq!(t.find(&key("b", 1)), None);
        assert_eq!((t.find(&key("a", 1)), t.find(&key("c", 1))), (Some(ids[0]), Some(ids[3])));
        assert_eq!(t.add(key("d", 1)), Ok(ids[1]));
        t.add(key("e", 1)).unwrap();
        t.add(key("f", 1)).unwrap();
        assert_eq!(t.add(key("g", 1)), Err(Code::Limit));
    }

    #[test]
    fn filling_a_gap_joins_what_lies_on_both_sides() {
        let mut slots = [const { StreamSlot::EMPTY }; 1];
        let mut buckets = [0; 1];
        let mut t = StreamTable::new(Lent::Borrowed(&mut slots), Lent::Borrowed(&mut buckets));
        let i = t.add(key("a", 1)).unwrap();
        let s = t.at_mut(i).unwrap();
        let at = |seq| Position { seq, chain: Chain([seq as u8; 32]) };
        s.now = Mark { have: at(4), top: at(9), gap_end: Some(at(6)) };
        s.durable = s.now;
        assert_eq!((s.readable_upto(2), s.readable_upto(5), s.readable_upto(7)), (4, 0, 9));
        assert_eq!(s.entry().gap, Some((5, 6)));
        s.advance(at(10), Hlc::new(1, 0));
        s.advance(at(5), Hlc::ZERO);
        assert_eq!((s.now.have.seq, s.now.top.seq), (5, 10));
        s.advance(at(6), Hlc::ZERO);
        assert_eq!((s.now.have.seq, s.now.top.seq, s.now.gap_end), (10, 10, None));
        assert_eq!((s.readable_upto(5), s.entry().gap), (0, Some((5, 6))), "not before it is durable");
        s.durable = s.now;
        assert_eq!((s.readable_upto(5), s.entry().gap), (10, None));
    }
}
