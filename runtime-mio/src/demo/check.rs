//! Whether the hub holds what the clinics appended: each event once, byte for byte.

use std::ops::AddAssign;

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events that were appended.
    pub appended: u64,
    /// Different events that are at the hub, whoever wrote them.
    pub at_hub: u64,
    /// Appended events that are not at the hub, not even altered.
    pub lost: u64,
    /// Events at the hub that are there already.
    pub duplicates: u64,
    /// Events at the hub with other bytes, or in another place, than they were appended.
    pub altered: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.appended += other.appended;
        self.at_hub += other.at_hub;
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.altered += other.altered;
    }
}

/// Half of a BLAKE3 hash: nothing in a demo has two equal ones by chance.
type Hash = [u8; 16];

fn hash(kind: u16, payload: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&kind.to_le_bytes()).update(payload);
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    half
}

/// Compares one clinic's events with what another log holds of them. Needs 25 bytes for each event,
/// however large the events are.
#[derive(Debug)]
pub struct Checker {
    /// What was appended, in order: the event with seq 1 first.
    expected: Vec<Hash>,
    /// Positions in `expected`, in the order of their hashes.
    by_hash: Vec<u32>,
    /// How many times each was seen.
    seen: Vec<u32>,
    /// Where something was seen that nobody appended.
    spoilt: Vec<bool>,
    misplaced: u64,
    strangers: u64,
}

impl Checker {
    /// Expects these events, in the order in which they were appended; at most 2^32 of them.
    #[must_use]
    pub fn new(events: impl Iterator<Item = (u16, Vec<u8>)>) -> Checker {
        let expected: Vec<Hash> = events.map(|(kind, payload)| hash(kind, &payload)).collect();
        let mut by_hash: Vec<u32> = (0..expected.len() as u32).collect();
        by_hash.sort_unstable_by_key(|&at| expected[at as usize]);
        let (seen, spoilt) = (vec![0; expected.len()], vec![false; expected.len()]);
        Checker { expected, by_hash, seen, spoilt, misplaced: 0, strangers: 0 }
    }

    /// Takes an event that is there: `seq` is its place in the clinic's stream, `None` if it is in
    /// a stream that the clinic does not have.
    pub fn take(&mut self, seq: Option<u64>, kind: u16, payload: &[u8]) {
        let hash = hash(kind, payload);
        let place = seq.and_then(|seq| usize::try_from(seq.checked_sub(1)?).ok());
        let place = place.filter(|&place| place < self.expected.len());
        if let Some(place) = place.filter(|&place| self.expected[place] == hash) {
            self.seen[place] += 1;
        } else if let Ok(found) = self.by_hash.binary_search_by_key(&hash, |&at| self.expected[at as usize]) {
            self.seen[self.by_hash[found] as usize] += 1;
            self.misplaced += 1;
        } else if let Some(place) = place {
            self.spoilt[place] = true;
        } else {
            self.strangers += 1;
        }
    }

    /// The result, after everything was taken.
    #[must_use]
    pub fn finish(self) -> Counts {
        let mut counts = Counts { appended: self.expected.len() as u64, at_hub: self.strangers, ..Counts::default() };
        for (&seen, &spoilt) in self.seen.iter().zip(&self.spoilt) {
            counts.at_hub += u64::from(seen > 0) + u64::from(spoilt);
            counts.duplicates += u64::from(seen.saturating_sub(1));
            counts.altered += u64::from(spoilt);
            counts.lost += u64::from(seen == 0 && !spoilt);
        }
        // A doubled or a missing event moves those behind it: that is one fault and counted already.
        if counts.lost + counts.duplicates + counts.altered + self.strangers == 0 {
            counts.altered = self.misplaced;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::workload::Workload;

    const COUNT: u64 = 50;

    fn events() -> Vec<(u16, Vec<u8>)> {
        let mut workload = Workload::new(3, 1);
        (0..COUNT).map(|_| workload.next_event()).collect()
    }

    /// The result for a hub that holds these events, the first with seq 1.
    fn check(at_hub: &[(u16, Vec<u8>)]) -> Counts {
        let mut checker = Checker::new(events().into_iter());
        for ((kind, payload), seq) in at_hub.iter().zip(1..) {
            checker.take(Some(seq), *kind, payload);
        }
        checker.finish()
    }

    const GOOD: Counts = Counts { appended: COUNT, at_hub: COUNT, lost: 0, duplicates: 0, altered: 0 };

    #[test]
    fn the_same_events_are_no_fault() {
        assert_eq!(check(&events()), GOOD);
        assert_eq!(Checker::new(std::iter::empty()).finish(), Counts::default());
    }

    #[test]
    fn a_missing_event_is_lost_wherever_it_was() {
        let lost = Counts { at_hub: COUNT - 1, lost: 1, ..GOOD };
        for missing in [0, 20, COUNT as usize - 1] {
            // The log closed the gap, or it kept it.
            let mut closed = events();
            closed.remove(missing);
            assert_eq!(check(&closed), lost, "{missing}");
            let mut checker = Checker::new(events().into_iter());
            for ((kind, payload), seq) in events().iter().zip(1..).filter(|(_, seq)| *seq != missing as u64 + 1) {
                checker.take(Some(seq), *kind, payload);
            }
            assert_eq!(checker.finish(), lost, "{missing}");
        }
        assert_eq!(check(&[]), Counts { at_hub: 0, lost: COUNT, ..GOOD });
    }

    #[test]
    fn a_doubled_event_is_a_duplicate_wherever_it_is() {
        for (of, to) in [(0, 0), (20, 21), (20, 50), (49, 0)] {
            let mut doubled = events();
            doubled.insert(to, events()[of].clone());
            assert_eq!(check(&doubled), Counts { duplicates: 1, ..GOOD }, "{of} {to}");
        }
        let mut checker = Checker::new(events().into_iter());
        for seq in [1, 2, 2] {
            let (kind, payload) = &events()[seq - 1];
            checker.take(Some(seq as u64), *kind, payload);
        }
        assert_eq!((checker.finish().duplicates, COUNT), (1, COUNT));
    }

    #[test]
    fn one_other_bit_is_altered() {
        let mut altered = events();
        altered[7].1[3] ^= 1;
        assert_eq!(check(&altered), Counts { altered: 1, ..GOOD });
        let mut altered = events();
        altered[7].0 ^= 1;
        assert_eq!(check(&altered), Counts { altered: 1, ..GOOD });
    }

    #[test]
    fn two_events_in_each_others_place_are_altered() {
        let mut swapped = events();
        swapped.swap(3, 4);
        assert_eq!(check(&swapped), Counts { altered: 2, ..GOOD });
    }

    #[test]
    fn what_nobody_appended_is_too_much() {
        let mut more = events();
        more.push((1, b"{}".to_vec()));
        assert_eq!(check(&more), Counts { at_hub: COUNT + 1, ..GOOD });
        let mut checker = Checker::new(events().into_iter());
        for ((kind, payload), seq) in events().iter().zip(1..) {
            checker.take(Some(seq), *kind, payload);
        }
        let (kind, payload) = &events()[9];
        checker.take(None, *kind, payload);
        assert_eq!(checker.finish(), Counts { duplicates: 1, ..GOOD });
    }
}
