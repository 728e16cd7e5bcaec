//! What a pass keeps of one stream: how far it was seen, and what is missing before that.

use std::collections::BTreeSet;

use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;

/// Segment and page of a frame.
pub type Spot = (u64, u64);

/// Events that are missing between two that were read, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub from: u64,
    /// The last of them.
    pub to: u64,
    /// Where the event before stands; (0, 0) if there is none.
    pub behind: Spot,
    /// Where the event after them stands.
    pub before: Spot,
    /// Chain hash of the event before them, and the one that the event after them was chained to: what
    /// fills the hole must lead from the one to the other.
    ends: (Chain, Chain),
}

/// Chain hashes before and after an event.
pub(super) type Link = (Chain, Chain);

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was seen before.
    Again,
    /// It is new.
    New,
    /// It is new, and its chain hash is not that of its place.
    Unchained,
}

/// What was seen of a stream: see this file's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// The highest sequence number seen.
    pub top: u64,
    /// Chain hash up to there; of streams that are wanted only.
    pub chain: Chain,
    /// Different events seen.
    pub events: u64,
    /// Highest sequence number that a peer has acknowledged, as far as the log tells.
    pub acked: u64,
    /// Everything up to this sequence number was removed from the log on purpose; 0 if nothing was.
    pub floor: u64,
    /// Chain hash up to there.
    pub floor_chain: Chain,
    /// What is missing, ascending.
    pub holes: Vec<Hole>,
    /// Events that are not here and whose places are (docs/LOG.md#withheld-1): neither seen nor missing.
    pub withheld: BTreeSet<u64>,
    /// Events that are here and that a hub lacks (docs/LOG.md#lack-1): from the first to the last.
    pub lacks: Option<(u64, u64)>,
    at: Spot,
}

impl Track {
    pub(super) fn new(key: &StreamKey) -> Self {
        let chain = Chain::start(key);
        Self {
            top: 0,
            chain,
            events: 0,
            acked: 0,
            floor: 0,
            floor_chain: chain,
            holes: Vec::new(),
            withheld: BTreeSet::new(),
            lacks: None,
            at: (0, 0),
        }
    }

    /// Everything up to `seq` was removed; `chain` is the hash there.
    pub(super) fn expire(&mut self, seq: u64, chain: Chain) {
        if seq > self.floor {
            (self.floor, self.floor_chain) = (seq, chain);
        }
        if seq > self.top {
            (self.top, self.chain) = (seq, chain);
        }
        self.holes.retain(|h| h.to > seq);
        self.holes.iter_mut().for_each(|h| h.from = h.from.max(seq + 1));
    }

    /// Whether anything of `first..=last` has not been seen yet.
    pub(super) fn brings_news(&self, first: u64, last: u64) -> bool {
        last > self.top
            || self.withheld.range(first..=last).next().is_some()
            || self.holes.iter().any(|h| first <= h.to && last >= h.from)
    }

    /// Takes note of one event at `spot`. `link` is `None` for streams whose chain nobody wants to know.
    pub(super) fn take(&mut self, seq: u64, spot: Spot, link: Option<Link>) -> Taken {
        let (before, after) = link.unwrap_or((self.chain, self.chain));
        let mut chained = true;
        if seq > self.top {
            if seq > self.top + 1 {
                let ends = (self.chain, before);
                self.holes.push(Hole { from: self.top + 1, to: seq - 1, behind: self.at, before: spot, ends });
            } else {
                chained = before == self.chain;
            }
            (self.top, self.at, self.chain) = (seq, spot, after);
        } else {
            if self.withheld.remove(&seq) {
                // It came after all.
                self.events += 1;
                return Taken::New;
            }
            let n = self.holes.partition_point(|h| h.to < seq);
            let Some(hole) = self.holes.get_mut(n).filter(|h| h.from <= seq) else { return Taken::Again };
            // An event that was fetched again.
            if link.is_some() {
                chained = (seq > hole.from || before == hole.ends.0) && (seq < hole.to || after == hole.ends.1);
            }
            let rest = Hole { from: seq + 1, ends: (after, hole.ends.1), ..*hole };
            (hole.to, hole.ends.1) = (seq - 1, before);
            let emptied = hole.from > hole.to;
            if rest.from <= rest.to {
                self.holes.insert(n + 1, rest);
            }
            if emptied {
                self.holes.remove(n);
            }
        }
        self.events += 1;
        if chained { Taken::New } else { Taken::Unchained }
    }

    /// Takes note of the place of an event.
    pub(super) fn take_place(&mut self, seq: u64, spot: Spot, link: Option<Link>) -> Taken {
        if self.withheld.contains(&seq) {
            return Taken::Again;
        }
        let taken = self.take(seq, spot, link);
        if taken != Taken::Again {
            self.withheld.insert(seq);
            self.events -= 1;
        }
        taken
    }

    /// Events that are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.holes.iter().map(|h| h.to - h.from + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ropeway_core::id::{Incarnation, Lane, NodeName};

    #[test]
    fn holes_are_noted_and_filled_in_any_order_and_doubles_are_seen() {
        let key = StreamKey { node: NodeName::new("a").unwrap(), incarnation: Incarnation::new(1), lane: Lane::Normal };
        let mut t = Track::new(&key);
        let ranges = |t: &Track| t.holes.iter().map(|h| (h.from, h.to)).collect::<Vec<_>>();
        for seq in [1, 2, 10, 11, 20] {
            assert_eq!(t.take(seq, (1, seq), None), Taken::New);
        }
        assert_eq!((ranges(&t), t.missing(), t.events), (vec![(3, 9), (12, 19)], 15, 5));
        assert_eq!((t.holes[0].behind, t.holes[0].before), ((1, 2), (1, 10)));
        assert_eq!([2, 20].map(|seq| t.take(seq, (2, 1), None)), [Taken::Again; 2]);
        assert!(!t.brings_news(10, 11) && t.brings_news(2, 3) && t.brings_news(20, 21));
        for seq in [5, 3, 9, 4] {
            assert_eq!(t.take(seq, (2, 1), None), Taken::New);
        }
        assert_eq!(ranges(&t), [(6, 8), (12, 19)]);
        for seq in (6..=8).chain(12..=19) {
            assert_eq!(t.take(seq, (2, 1), None), Taken::New);
        }
        assert_eq!((ranges(&t), t.events, t.top), (vec![], 20, 20));
    }

    #[test]
    fn what_fills_a_hole_must_lead_from_the_event_before_it_to_the_one_after() {
        let key = StreamKey { node: NodeName::new("a").unwrap(), incarnation: Incarnation::new(1), lane: Lane::Normal };
        let chain = |n: u64| if n == 0 { Chain::start(&key) } else { Chain([n as u8; 32]) };
        let link = |seq| Some((chain(seq - 1), chain(seq)));
        let mut whole = Track::new(&key);
        for seq in [1, 6] {
            assert_eq!(whole.take(seq, (1, seq), link(seq)), Taken::New);
        }
        for order in [[2, 3, 4, 5], [5, 4, 3, 2], [3, 5, 2, 4]] {
            let mut t = whole.clone();
            assert!(order.iter().all(|seq| t.take(*seq, (2, 1), link(*seq)) == Taken::New), "{order:?}");
            assert_eq!((t.chain, t.missing()), (chain(6), 0));
            for forged in order {
                // The same, one of them from another history.
                let mut t = whole.clone();
                let taken = order.map(|seq| {
                    let after = if seq == forged { Chain([99; 32]) } else { chain(seq) };
                    t.take(seq, (2, 1), Some((chain(seq - 1), after)))
                });
                assert!(taken.contains(&Taken::Unchained), "{order:?} {forged}");
            }
        }
        assert_eq!(whole.take(7, (3, 1), Some((chain(1), chain(7)))), Taken::Unchained);
    }

    #[test]
    fn a_place_is_neither_seen_nor_missing_and_the_event_counts_when_it_comes() {
        let key = StreamKey { node: NodeName::new("a").unwrap(), incarnation: Incarnation::new(1), lane: Lane::Normal };
        let mut t = Track::new(&key);
        assert_eq!(t.take(1, (1, 1), None), Taken::New);
        assert_eq!((t.take_place(2, (1, 2), None), t.take_place(2, (1, 3), None)), (Taken::New, Taken::Again));
        assert_eq!((t.events, t.missing(), t.top, t.withheld.len()), (1, 0, 2, 1));
        assert!(t.brings_news(2, 2) && !t.brings_news(1, 1));
        assert_eq!((t.take(2, (1, 4), None), t.take_place(2, (1, 5), None)), (Taken::New, Taken::Again));
        assert_eq!((t.events, t.withheld.len()), (2, 0));
    }
}
