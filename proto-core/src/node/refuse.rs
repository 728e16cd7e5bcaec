//! Events of a batch that this node does not take, for their size or by a rule of its own: their places go into the log
//! (docs/PROTOCOL.md#withheld-5).
//!
//! A place may be larger than the event, so that the places of many small ones may fit no commit group. Such a batch is
//! taken by parts: as much as fits, and the rest when there is room again, as a batch of which a part is known.

use super::Node;
use super::commit::DECL_MAX_BYTES;
use super::receive::Refused;
use crate::accept::{AcceptanceRef, Verdict};
use crate::code::Code;
use crate::event::Event;
use crate::hlc::Hlc;
use crate::log::{RUN_HEAD_MAX_BYTES, event_bytes_after};
use crate::planted::{Bug, has, mark};
use crate::session::LackDue;
use crate::wire::batch::{BATCH_MAX_EVENTS, BatchHead};
use crate::withheld::{Known, WITHHELD_MAX_BYTES, Withheld};

/// A larger event is no smaller than its place with the heads of the runs on both sides of it.
const SMALL_BYTES: usize = 256;

/// The events of a batch that are refused by the node's rule, which is asked once of each.
pub(super) struct Verdicts {
    first_seq: u64,
    bits: [u64; BATCH_MAX_EVENTS.div_ceil(64) as usize],
}

impl Verdicts {
    fn at(&self, seq: u64) -> (usize, u64) {
        let nth = seq - self.first_seq;
        ((nth / 64) as usize, 1 << (nth % 64))
    }

    fn refuse(&mut self, seq: u64) {
        let (word, bit) = self.at(seq);
        if let Some(word) = self.bits.get_mut(word) {
            *word |= bit;
        }
    }

    fn refused(&self, seq: u64) -> bool {
        let (word, bit) = self.at(seq);
        self.bits.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// What events and places take in a group, one after the other: not less than they do.
pub(super) struct Cost {
    /// So many bytes.
    pub(super) bytes: usize,
    prev: Option<(Hlc, bool)>,
}

impl Cost {
    pub(super) const NONE: Cost = Cost { bytes: 2 * RUN_HEAD_MAX_BYTES, prev: None };

    /// With one more of them: all bytes.
    pub(super) fn add(&mut self, event: &Event<'_>, refused: bool) -> usize {
        let prev = self.prev.map(|(hlc, _)| hlc);
        self.bytes += match refused {
            // The length of either takes a byte.
            true => event_bytes_after(prev, &Event { payload: &[], ..*event }) + WITHHELD_MAX_BYTES,
            false => event_bytes_after(prev, event),
        };
        // Places stand in runs of their own.
        self.bytes += if self.prev.is_some_and(|(_, before)| before != refused) { RUN_HEAD_MAX_BYTES } else { 0 };
        self.prev = Some((event.hlc, refused));
        self.bytes
    }
}

impl<'m> Node<'m> {
    /// From now on this rule decides which events are taken from peers, beside
    /// [`Config::accept_bytes`](crate::limits::Config::accept_bytes). Give it before the first session begins. What stands
    /// in the log stays as it is.
    pub fn accept_by(&mut self, rule: AcceptanceRef<'m>) {
        self.rule = Some(rule);
    }
}

impl Node<'_> {
    /// Asks the node's rule of these events of stream `n`, the first of which may be `first_seq`.
    pub(super) fn judge<'a>(
        &mut self,
        n: u32,
        first_seq: u64,
        events: impl Iterator<Item = (Event<'a>, u64)>,
    ) -> Verdicts {
        let mut verdicts = Verdicts { first_seq, bits: [0; _] };
        let foreign = self.streams.at(n).map(|s| s.key).filter(|key| key.node != self.config.name);
        let Some((key, rule)) = foreign.zip(self.rule.as_mut()) else { return verdicts };
        for (e, seq) in events {
            if rule.judge(&key, &e) == Verdict::Refuse {
                verdicts.refuse(seq);
            }
        }
        verdicts
    }

    /// Whether stream `n` is of this node, perhaps of an earlier incarnation: its events are taken whatever they are.
    fn wrote(&self, n: u32) -> bool {
        self.streams.at(n).is_some_and(|s| s.key.node == self.config.name)
    }

    /// Why event `seq` of stream `n` is not taken; `None` if it is.
    pub(super) fn refuses(&self, n: u32, (seq, event): (u64, &Event<'_>), verdicts: &Verdicts) -> Option<Code> {
        let limit = self.config.accept_bytes;
        if limit > 0 && event.payload.len() > limit && !self.wrote(n) {
            return Some(Code::TooLarge);
        }
        verdicts.refused(seq).then_some(Code::Refused)
    }

    /// What may be put of events that take so many bytes, the first of them `first`: all of them, or what fits the
    /// group that fills if no group holds them. That is not little: each time, all of the batch is decompressed.
    pub(super) fn room_for_some(&mut self, all: usize, first: usize) -> Result<usize, Refused> {
        if all <= self.group_holds() {
            self.room_for(all)?;
            return Ok(all);
        }
        self.room_for(first.max(self.group_holds() / 4))?;
        Ok(self.commit.room_left().saturating_sub(DECL_MAX_BYTES))
    }

    /// Bytes of events of one stream in an empty group.
    fn group_holds(&self) -> usize {
        self.limits.group_bytes - DECL_MAX_BYTES
    }

    /// What the events of a batch take at most in a group, whatever of them is refused; no more than fits one.
    pub(super) fn worst_cost(&self, n: u32, batch: &BatchHead) -> usize {
        let count = batch.count as usize;
        // An event takes at most a byte more in the log than in the columns.
        let taken = 2 * RUN_HEAD_MAX_BYTES + batch.raw_bytes + count;
        let small = self.rule.is_some() || (1..SMALL_BYTES).contains(&self.config.accept_bytes);
        let places = if small && !self.wrote(n) { count * (RUN_HEAD_MAX_BYTES + WITHHELD_MAX_BYTES) } else { 0 };
        if places > 0 { (taken + places).min(self.group_holds()) } else { taken }
    }

    /// What stands in the place of an event that is refused.
    pub(super) fn place_of(event: &Event<'_>, code: Code) -> Withheld {
        Withheld { known: Known::Hash(event.hash()), bytes: event.payload.len() as u64, code: code.as_u16() }
    }

    /// Event `seq` of link `l` was refused: the users here hear of it, and so does the peer.
    pub(super) fn refused(&mut self, i: u32, l: u32, seq: u64, place: &Withheld) {
        mark!("withheld.refused");
        if place.code == Code::Refused.as_u16() {
            mark!("withheld.refused_by_rule");
        }
        let n = self.links[l as usize].0.stream;
        self.s(i).stats.placed += 1;
        self.tell_withheld(i, n, (seq, seq, 1), place, true);
        if !self.may_withhold(i) || has(Bug::RefusalUntold) {
            return;
        }
        let s = self.s(i);
        let due = LackDue { link: l, from: seq, to: seq, count: 1, code: place.code };
        let goes_on = |d: &&mut LackDue| d.link == l && d.code == due.code && d.to + 1 == seq;
        if let Some(d) = s.lacks.back_mut().filter(goes_on) {
            (d.to, d.count) = (seq, d.count + 1);
        } else if s.lacks.push_back(due).is_err() {
            // The last word about the stream grows, over what lies between.
            match s.lacks.iter_mut().rev().find(|d| d.link == l) {
                Some(d) => {
                    (d.to, d.count) = (d.to.max(seq), d.count + 1);
                    if d.code != due.code {
                        d.code = Code::Withheld.as_u16();
                    }
                }
                None => self.links[l as usize].0.owes_lacks = true,
            }
        }
        self.s(i).owes_lacks = true;
        self.mark_ready(i);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Chain, flags};
    use crate::log::GroupBuilder;

    #[test]
    fn events_and_places_in_any_order_take_no_more_than_was_said() {
        let payloads: [&[u8]; 4] = [b"", b"x", &[7; 127], &[7; 300]];
        for pattern in 0..256u32 {
            let (mut cost, mut group, mut body) = (Cost::NONE, GroupBuilder::new(), [0; 1 << 13]);
            for seq in 1..=24u64 {
                let refused = pattern >> (seq % 8) & 1 == 1;
                let hlc =
                    Hlc::new(1_770_000_000_000 + seq * seq % 7 * 100_000 + seq * 1_000_000, (seq % 3) as u16 * 999);
                let e = Event { hlc, kind: u16::MAX, flags: flags::FUTURE, payload: payloads[(seq % 4) as usize] };
                let place = Node::place_of(&e, Code::Refused);
                let mut buf = [0; WITHHELD_MAX_BYTES];
                let put = match refused {
                    true => Event { payload: place.put(&mut buf), flags: e.flags | flags::WITHHELD, ..e },
                    false => e,
                };
                let said = cost.add(&e, refused);
                group.push_event(&mut body, u32::MAX, seq + (1 << 60), &Chain([3; 32]), &put).unwrap();
                assert!(group.len() <= said, "{pattern:b}: {} of {said} at {seq}", group.len());
            }
        }
    }

    #[test]
    fn a_verdict_is_that_of_one_event() {
        let mut verdicts = Verdicts { first_seq: 10, bits: [0; _] };
        for seq in [10, 73, 74, 10 + BATCH_MAX_EVENTS - 1, 10 + BATCH_MAX_EVENTS] {
            verdicts.refuse(seq);
        }
        let refused: std::vec::Vec<_> = (10..10 + 2 * BATCH_MAX_EVENTS).filter(|seq| verdicts.refused(*seq)).collect();
        assert_eq!(refused, [10, 73, 74, 10 + BATCH_MAX_EVENTS - 1]);
    }
}
