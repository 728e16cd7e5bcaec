//! From log bytes back to a node's state. The runtime feeds the groups that the scanner
//! ([`SegmentScan`](crate::log::SegmentScan)) found, in order; what comes out goes into
//! [`Node::new`](crate::node::Node::new).

use crate::code::Code;
use crate::event::Chain;
use crate::hlc::Hlc;
use crate::id::{Incarnation, NodeName, StreamKey};
use crate::log::sealed::{At, LogState, StreamState, Stub};
use crate::log::{Record, Repair, records};
use crate::mem::Lent;
use crate::planted::{Bug, has, mark};
use crate::streams::{FrontierEntry, Mark, Position, StreamSlot, StreamTable};

/// A run of events in the log, as the index of a log reader wants to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunAt {
    /// Number of the stream at this node: stable while the program runs.
    pub stream: u32,
    /// First seq of the run.
    pub first_seq: u64,
    /// Last seq of the run.
    pub last_seq: u64,
}

/// Where the next frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct LogTail {
    /// Last segment that exists, 0 if there is none.
    pub segment: u64,
    /// First free page in it.
    pub next_page: u64,
    /// Whether the end was clean; otherwise the next group goes into a new segment.
    pub clean: bool,
    /// [`End::link`](crate::log::End::link) of the last segment.
    pub link: [u8; 16],
}

/// State being recovered from a log.
#[derive(Debug)]
pub struct Recovered<'m> {
    pub(crate) streams: StreamTable<'m>,
    dict: Lent<'m, u32>,
    dict_len: u32,
    name: NodeName,
    pub(crate) tail: LogTail,
    pub(crate) clock: Hlc,
    pub(crate) own: Option<(Incarnation, u64)>,
    pub(crate) refused: Option<Code>,
    events: u64,
    stub: Option<u64>,
}

/// Memory for [`Recovered`]; sizes as in [`Limits::streams`](crate::limits::Limits::streams).
#[derive(Debug)]
pub struct StreamMemory<'m> {
    /// One for each stream.
    pub slots: Lent<'m, StreamSlot>,
    /// About one for each stream.
    pub buckets: Lent<'m, u32>,
    /// One for each stream.
    pub dict: Lent<'m, u32>,
}

#[cfg(feature = "alloc")]
impl StreamMemory<'static> {
    /// On the heap, for `streams` streams.
    #[must_use]
    pub fn owned(streams: usize) -> Self {
        Self {
            slots: Lent::reserved(streams),
            buckets: Lent::owned(u32::MAX, streams),
            dict: Lent::owned(u32::MAX, streams),
        }
    }
}

impl<'m> Recovered<'m> {
    /// The state of an empty log of the node `name`.
    #[must_use]
    pub fn new(name: NodeName, memory: StreamMemory<'m>) -> Self {
        Self {
            streams: StreamTable::new(memory.slots, memory.buckets),
            dict: memory.dict,
            dict_len: 0,
            name,
            tail: LogTail::default(),
            clock: Hlc::ZERO,
            own: None,
            refused: None,
            events: 0,
            stub: None,
        }
    }

    /// Takes the body of one group. Groups come in the order of the log. `on_run`
    /// hears of each run of events.
    ///
    /// # Errors
    /// [`Code::Corrupt`] if a run does not continue its stream's chain, [`Code::Limit`] if there
    /// are more streams than memory, [`Code::FormatNewer`] for an unknown record. The group is then
    /// taken up to there.
    pub fn group(&mut self, body: &[u8], on_run: impl FnMut(RunAt)) -> Result<(), Code> {
        self.group_with(body, on_run, |_| ())
    }

    /// As [`Recovered::group`]; `on_repair` hears of each damage that the log itself tells of.
    ///
    /// # Errors
    /// As [`Recovered::group`].
    pub fn group_with(
        &mut self,
        body: &[u8],
        mut on_run: impl FnMut(RunAt),
        mut on_repair: impl FnMut(&Repair<'_>),
    ) -> Result<(), Code> {
        self.dict_len = 0;
        for record in records(body) {
            match record? {
                Record::Stream(decl) => {
                    let i = match self.streams.find(&decl.key) {
                        Some(i) => i,
                        None => self.streams.add(decl.key)?,
                    };
                    if decl.index != self.dict_len {
                        return Err(Code::Corrupt);
                    }
                    *self.dict.get_mut(decl.index as usize).ok_or(Code::Limit)? = i;
                    self.dict_len += 1;
                    if let (Some(machine), true) = (decl.own_machine, decl.key.node == self.name) {
                        self.own = Some((decl.key.incarnation, machine));
                    }
                    // The log of another node, from a snapshot, declares streams that were that one's own.
                    let own = decl.own_machine.is_some() && decl.key.node == self.name;
                    if let Some(s) = self.streams.at_mut(i) {
                        s.own |= own;
                    }
                }
                Record::Events(run) => {
                    let i = self.stream_of(run.index)?;
                    let (own, first) = (self.name, Position { seq: run.base_seq - 1, chain: run.prev_chain });
                    let s = self.streams.at_mut(i).ok_or(Code::Corrupt)?;
                    let top = s.now.top.seq;
                    let (mut at, mut hlc) = (first, Hlc::ZERO);
                    let mut at_top = (at.seq == top).then_some(at.chain);
                    for e in run.events() {
                        if has(Bug::RecoveryForgetsLastEvent) && run.count > 1 && at.seq + 1 == run.last_seq() {
                            break;
                        }
                        at = Position { seq: at.seq + 1, chain: at.chain.then(&e) };
                        if at.seq == top {
                            at_top = Some(at.chain);
                        }
                        hlc = e.hlc;
                        if e.flags & crate::event::flags::FUTURE == 0 || s.key.node == own {
                            self.clock = self.clock.max(e.hlc);
                        }
                    }
                    self.events += u64::from(run.count);
                    on_run(RunAt { stream: i, first_seq: run.base_seq, last_seq: at.seq });
                    let consistent = place_run(s, first, at, at_top, hlc);
                    match run.withheld {
                        true => s.withhold(run.base_seq, at.seq),
                        false => s.came(run.base_seq, at.seq),
                    }
                    s.sealed = s.now;
                    s.durable = s.now;
                    consistent?;
                }
                Record::Receipt(r) => {
                    let i = self.stream_of(r.index)?;
                    if let Some(s) = self.streams.at_mut(i) {
                        s.acked = s.acked.max(r.seq);
                        s.acked_by = Some(r.peer);
                    }
                }
                Record::Lack(lack) => {
                    let i = self.stream_of(lack.index)?;
                    if let Some(s) = self.streams.at_mut(i) {
                        s.lacks = lack.range;
                    }
                }
                Record::Expired(e) => {
                    let i = self.stream_of(e.index)?;
                    let s = self.streams.at_mut(i).ok_or(Code::Corrupt)?;
                    s.skip_to(Position { seq: e.seq, chain: e.chain }).map_err(|_| Code::Corrupt)?;
                    (s.sealed, s.durable) = (s.now, s.now);
                }
                Record::Repair(repair) => {
                    // The damaged pages may be gone by now, sealed without them; what they have cost is not.
                    if !repair.head.repaired {
                        self.doubt_ends(&repair);
                    }
                    on_repair(&repair);
                }
            }
        }
        Ok(())
    }

    fn stream_of(&self, dict_index: u32) -> Result<u32, Code> {
        let known = self.dict[..self.dict_len as usize].get(dict_index as usize);
        known.copied().ok_or(Code::Corrupt)
    }

    /// Says that durable data is missing from the log at this point. Streams of which nothing follows
    /// may have lost their end. Of own ones the next numbers may have been given out before, so the
    /// node will go on in a new incarnation (docs/PROTOCOL.md#incarnation-2); own ones of an incarnation
    /// that was left before had their end before, too.
    pub fn damaged(&mut self) {
        mark!("recovery.damaged");
        for slot in &mut *self.streams.slots {
            if let Some(s) = slot.stream.as_mut() {
                let left = s.own && self.own.is_some_and(|(present, _)| s.key.incarnation != present);
                s.end_at_risk |= !left;
            }
        }
    }

    /// Takes from a REPAIR whose end is in doubt: of own streams it names them.
    fn doubt_ends(&mut self, repair: &Repair<'_>) {
        if !repair.head.cost_known {
            for s in self.streams.slots.iter_mut().filter_map(|s| s.stream.as_mut()) {
                s.end_at_risk |= !s.own;
            }
        }
        for endless in repair.lost().filter(|l| l.to == u64::MAX) {
            if let Some(n) = self.streams.find(&endless.key)
                && let Some(s) = self.streams.at_mut(n)
            {
                s.end_at_risk = true;
            }
        }
    }

    /// Whether damage may have taken the end of a stream of the present incarnation.
    pub(crate) fn own_at_risk(&self) -> bool {
        let mine = |key: &crate::id::StreamKey| self.own.is_some_and(|(i, _)| key.incarnation == i);
        self.streams.of_node(self.name).any(|(_, s)| s.end_at_risk && mine(&s.key))
    }

    /// Says where the log ends: the last call before [`Node::new`](crate::node::Node::new).
    #[must_use]
    pub fn ending_at(mut self, tail: LogTail) -> Self {
        self.tail = tail;
        self
    }

    /// Says that nothing may be written to this log, and why: events are refused from the start,
    /// and what it holds is still sent.
    #[must_use]
    pub fn refusing(mut self, why: Code) -> Self {
        self.refused = Some(why);
        self
    }

    /// Everything about the streams, in the order of their numbers, for a checkpoint.
    pub fn states(&self) -> impl Iterator<Item = StreamState> {
        self.streams.all().map(|(_, s)| {
            let at = |p: Position| (p.seq, p.chain);
            StreamState {
                key: s.key,
                have: at(s.now.have),
                gap: s.now.gap_end.map(|end| (at(s.now.top), at(end))),
                last_hlc: s.last_hlc,
                own: s.own,
                end_at_risk: s.end_at_risk,
                acked: s.acked_by.map(|by| (s.acked, by)),
                floor: (s.floor.seq > 0).then(|| at(s.floor)),
                skipped: s.skipped,
                withheld: s.withheld,
                lacks: s.lacks,
            }
        })
    }

    /// Everything else, for a checkpoint: as of the end of segment `upto`, to whose end the next one
    /// links with `link`. `groups`: how many were read.
    #[must_use]
    pub fn log_state(&self, upto: u64, link: [u8; 16], groups: u64) -> LogState {
        let stub = self.stub.map(|number| Stub { number, streams: self.streams.all().count() as u32 });
        LogState { upto, link, clock: self.clock, own: self.own, events: self.events, groups, stub }
    }

    /// Takes the log's part of a checkpoint: before anything else is fed.
    pub fn restore_log(&mut self, state: &LogState) {
        (self.clock, self.own, self.events) = (state.clock, state.own, state.events);
        self.stub = state.stub.map(|s| s.number);
    }

    /// The stub that the log begins with.
    #[must_use]
    pub fn stub(&self) -> Option<u64> {
        self.stub
    }

    /// Whether there is such a stream.
    #[must_use]
    pub fn knows(&self, key: &StreamKey) -> bool {
        self.streams.find(key).is_some()
    }

    /// Says that all segments up to the stub `number` are gone.
    pub fn begins_with(&mut self, number: u64) {
        self.stub = Some(number);
    }

    /// Says that everything of a stream up to `floor` was removed from the log on purpose.
    pub fn expired(&mut self, key: &StreamKey, floor: At) {
        if let Some(s) = self.streams.find(key).and_then(|n| self.streams.at_mut(n)) {
            s.raise_floor(Position { seq: floor.0, chain: floor.1 });
        }
    }

    /// Takes a stream from a checkpoint: before anything else is fed.
    ///
    /// # Errors
    /// [`Code::Limit`] if there are more streams than memory, [`Code::Corrupt`] if it is there already.
    pub fn restore_stream(&mut self, state: &StreamState) -> Result<(), Code> {
        if self.streams.find(&state.key).is_some() {
            return Err(Code::Corrupt);
        }
        let n = self.streams.add(state.key)?;
        let s = self.streams.at_mut(n).ok_or(Code::Limit)?;
        let at = |p: (u64, crate::event::Chain)| Position { seq: p.0, chain: p.1 };
        let have = at(state.have);
        s.now = match state.gap {
            None => Mark::whole(have),
            Some((top, end)) => Mark { have, top: at(top), gap_end: Some(at(end)) },
        };
        (s.sealed, s.durable) = (s.now, s.now);
        (s.last_hlc, s.own, s.end_at_risk) = (state.last_hlc, state.own, state.end_at_risk);
        if let Some((acked, by)) = state.acked {
            (s.acked, s.acked_by) = (acked, Some(by));
        }
        if let Some(floor) = state.floor {
            s.floor = at(floor);
        }
        (s.skipped, s.withheld, s.lacks) = (state.skipped, state.withheld, state.lacks);
        Ok(())
    }

    /// What the log holds of each stream.
    pub fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.streams.frontier()
    }

    /// Streams that damage may have taken the end of: the highest seq that was found of each, and whether it
    /// is an own one.
    pub fn streams_in_doubt(&self) -> impl Iterator<Item = (crate::id::StreamKey, u64, bool)> {
        self.streams.all().filter(|(_, s)| s.end_at_risk).map(|(_, s)| (s.key, s.now.top.seq, s.own))
    }

    /// The same, with the streams' numbers.
    pub fn streams(&self) -> impl Iterator<Item = (u32, FrontierEntry)> {
        self.streams.all().filter(|(_, s)| s.durable.top.seq > 0).map(|(n, s)| (n, s.entry()))
    }

    /// The stream with this number (see [`RunAt::stream`]).
    #[must_use]
    pub fn stream(&self, number: u32) -> Option<FrontierEntry> {
        self.streams.at(number).map(crate::streams::Stream::entry)
    }

    /// Events read so far, repeated ones included.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Whether a receipt speaks of events that were not found: then the end of the log is damage,
    /// not a torn write.
    #[must_use]
    pub fn receipt_beyond_log(&self) -> bool {
        self.streams.all().any(|(_, s)| s.acked > s.now.top.seq)
    }
}

/// Fits a run that stands in the log into its stream. `at_top`: the run's chain where the stream
/// ended so far, if it begins there or before and reaches it.
fn place_run(
    s: &mut crate::streams::Stream,
    before: Position,
    last: Position,
    at_top: Option<Chain>,
    hlc: Hlc,
) -> Result<(), Code> {
    let top = s.now.top;
    if last.seq > top.seq {
        s.end_at_risk = false;
    }
    if before.seq > top.seq {
        // What stood between was damaged. Several gaps count as one: what lies between them comes
        // again with the repair, and is the same.
        mark!("recovery.gap");
        if s.now.gap_end.is_some() {
            mark!("recovery.gaps_merged");
        }
        s.now.gap_end = Some(before);
        s.now.top = last;
        s.last_hlc = hlc;
        return Ok(());
    }
    // Events that could not be read for a while are there twice; the second copy may go on where the
    // first ends.
    let overlaps = before.seq < top.seq;
    if last.seq > top.seq {
        let continues = at_top == Some(top.chain);
        if !continues && overlaps {
            return Err(Code::Corrupt);
        }
        s.last_hlc = hlc;
        s.now.top = last;
        if s.now.gap_end.is_none() {
            s.now.have = last;
        }
        if !continues {
            return Err(Code::Corrupt);
        }
    }
    // A repair: it continues below the gap.
    if let Some(gap) = s.now.gap_end
        && overlaps
        && before.seq <= s.now.have.seq
        && last.seq > s.now.have.seq
        && !has(Bug::RecoveryForgetsRepair)
    {
        mark!("recovery.repair");
        s.now.have = last;
        if last.seq >= gap.seq {
            mark!("recovery.gap_closed");
            s.now = Mark::whole(s.now.top);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::id::Lane;
    use crate::log::{GroupBuilder, StreamDecl};

    fn body(key: StreamKey, first_seq: u64, chain: &Chain) -> (alloc::vec::Vec<u8>, Chain) {
        body_of(key, first_seq, 1, chain)
    }

    fn body_of(key: StreamKey, first_seq: u64, count: u64, chain: &Chain) -> (alloc::vec::Vec<u8>, Chain) {
        let (mut buf, mut chain) = (alloc::vec![0; 512], *chain);
        let mut group = GroupBuilder::new();
        group.stream(&mut buf, &StreamDecl { index: 0, key, own_machine: Some(9), parent: None }).unwrap();
        for seq in first_seq..first_seq + count {
            let event = Event { hlc: Hlc::new(1000 + seq, 0), kind: 0, flags: 0, payload: b"x" };
            group.push_event(&mut buf, 0, seq, &chain, &event).unwrap();
            chain = chain.then(&event);
        }
        buf.truncate(group.len());
        (buf, chain)
    }

    #[test]
    fn a_second_copy_goes_on_where_the_first_one_ends() {
        let name = NodeName::new("clinic_a").unwrap();
        let key = StreamKey { node: name, incarnation: Incarnation::new(5), lane: Lane::Normal };
        let start = Chain::start(&key);
        let (three, at_three) = body_of(key, 1, 3, &start);
        let (_, at_five) = body_of(key, 4, 2, &at_three);
        // Pages were unreadable for a while, and events 1 to 7 were fetched again; then the first three were
        // back.
        let mut r = Recovered::new(name, StreamMemory::owned(8));
        r.group(&three, |_| ()).unwrap();
        r.damaged();
        r.group(&body_of(key, 1, 7, &start).0, |_| ()).unwrap();
        let entry = r.frontier().next().unwrap();
        assert_eq!((entry.have, entry.top, entry.gap), (7, 7, None));
        assert!(!r.own_at_risk());
        // Over a gap: it is closed, wherever the copy begins.
        let mut r = Recovered::new(name, StreamMemory::owned(8));
        r.group(&three, |_| ()).unwrap();
        r.group(&body_of(key, 6, 1, &at_five).0, |_| ()).unwrap();
        assert_eq!(r.frontier().next().unwrap().gap, Some((4, 5)));
        r.group(&body_of(key, 2, 4, &body_of(key, 1, 1, &start).1).0, |_| ()).unwrap();
        let entry = r.frontier().next().unwrap();
        assert_eq!((entry.have, entry.gap), (6, None));
        // Another history is none of it.
        let mut r = Recovered::new(name, StreamMemory::owned(8));
        r.group(&three, |_| ()).unwrap();
        assert_eq!(r.group(&body_of(key, 1, 7, &at_five).0, |_| ()), Err(Code::Corrupt));
        assert_eq!(r.frontier().next().unwrap().top, 3);
    }

    #[test]
    fn an_own_stream_is_at_risk_from_the_damage_on_until_more_of_it_is_found() {
        let name = NodeName::new("clinic_a").unwrap();
        let key = |lane| StreamKey { node: name, incarnation: Incarnation::new(5), lane };
        let (normal, urgent) = (key(Lane::Normal), key(Lane::Urgent));
        let mut r = Recovered::new(name, StreamMemory::owned(8));
        let (group, chain) = body(normal, 1, &Chain::start(&normal));
        r.group(&group, |_| ()).unwrap();
        assert!(!r.own_at_risk());
        r.damaged();
        r.group(&body(urgent, 1, &Chain::start(&urgent)).0, |_| ()).unwrap();
        assert!(r.own_at_risk(), "what follows of another lane says nothing about this one");
        r.group(&body(normal, 2, &chain).0, |_| ()).unwrap();
        assert!(!r.own_at_risk());
    }

    #[test]
    fn what_was_another_nodes_own_stream_is_not_ours() {
        let (theirs, ours) = (NodeName::new("hub").unwrap(), NodeName::new("hub_2").unwrap());
        let key = StreamKey { node: theirs, incarnation: Incarnation::new(5), lane: Lane::Normal };
        let mut r = Recovered::new(ours, StreamMemory::owned(8));
        r.group(&body(key, 1, &Chain::start(&key)).0, |_| ()).unwrap();
        assert!(r.own.is_none() && r.frontier().all(|e| !e.own));
    }
}
