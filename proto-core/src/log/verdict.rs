//! What to make of the place where the valid frames end: a table (docs/LOG.md#recovery-3).

use crate::code::Code;

/// What stands where the next frame should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing: the first word is 0 or all ones, or the segment is full.
    Zero,
    /// Something that is no frame of this epoch: neither checksum nor tag are right.
    BadCrc,
    /// A frame whose checksum is right and whose tag is not, or an intact header whose key
    /// commitment is not right.
    CrcGoodTagBad,
    /// A header that cannot be read, or, in page 0, anything else.
    BadHeader,
}

impl Tail {
    /// Every value.
    pub const ALL: [Tail; 4] = [Tail::Zero, Tail::BadCrc, Tail::CrcGoodTagBad, Tail::BadHeader];
}

/// How the segment stands to the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// There is no next segment.
    Last,
    /// The next segment's header links to the last valid frame here: whatever follows it here was
    /// judged and set aside when that header was written.
    Continued,
    /// The next segment's header links to something else: frames were here that no longer are.
    Broken,
}

impl Place {
    /// Every value.
    pub const ALL: [Place; 3] = [Place::Last, Place::Continued, Place::Broken];
}

/// All that the decision depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// What stands after the last valid frame before the damage.
    pub tail: Tail,
    /// A valid frame or header stands later in the segment.
    pub later_valid: bool,
    /// More pages are in use than one interrupted write can have touched (the largest group and a
    /// header), or one of them cannot be read: what it holds may be durable, and come back.
    pub long: bool,
    /// A receipt or a checkpoint speaks of an event of this node that was not read.
    pub covered: bool,
    /// How the segment stands to the next one.
    pub place: Place,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing; a new epoch may begin right here.
    CleanEnd,
    /// The last write was interrupted: keep the bytes aside, begin a new segment.
    TornTail,
    /// Durable data is damaged: serve the rest, fetch the range again, begin a new segment.
    Corrupt,
    /// Perhaps durable data: keep everything, tell the operator, begin a new segment.
    Suspect,
    /// Somebody altered it: use nothing of it, tell the operator, begin a new segment.
    Tampered,
}

impl Verdict {
    /// The code to report, `None` for a clean end.
    #[must_use]
    pub fn code(self) -> Option<Code> {
        match self {
            Verdict::CleanEnd => None,
            Verdict::TornTail => Some(Code::TornTail),
            Verdict::Corrupt => Some(Code::Corrupt),
            Verdict::Suspect => Some(Code::TailSuspect),
            Verdict::Tampered => Some(Code::Tampered),
        }
    }
}

/// One row of the table. An empty list and `None` mean "whatever it is".
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Values of [`Evidence::tail`].
    pub tail: &'static [Tail],
    /// Value of [`Evidence::later_valid`].
    pub later_valid: Option<bool>,
    /// Value of [`Evidence::long`].
    pub long: Option<bool>,
    /// Value of [`Evidence::covered`].
    pub covered: Option<bool>,
    /// Values of [`Evidence::place`].
    pub place: &'static [Place],
    /// The decision.
    pub verdict: Verdict,
}

const UNFORGED: &[Tail] = &[Tail::Zero, Tail::BadCrc, Tail::BadHeader];
const UNREADABLE: &[Tail] = &[Tail::BadCrc, Tail::BadHeader];
const ZERO: &[Tail] = &[Tail::Zero];
const LAST: &[Place] = &[Place::Last];
const CONTINUED: &[Place] = &[Place::Continued];

const fn row(
    tail: &'static [Tail],
    later_valid: Option<bool>,
    long: Option<bool>,
    covered: Option<bool>,
    place: &'static [Place],
    verdict: Verdict,
) -> Row {
    Row { tail, later_valid, long, covered, place, verdict }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);
const ANY: Option<bool> = None;

/// The table of docs/LOG.md#recovery-3, in its order. Each evidence matches exactly one row.
pub const TABLE: &[Row] = &[
    row(&[Tail::CrcGoodTagBad], ANY, ANY, ANY, &[], Verdict::Tampered),
    row(UNFORGED, YES, ANY, ANY, &[], Verdict::Corrupt),
    row(UNFORGED, NO, ANY, ANY, &[Place::Broken], Verdict::Corrupt),
    row(UNFORGED, NO, ANY, YES, LAST, Verdict::Corrupt),
    row(ZERO, NO, ANY, NO, LAST, Verdict::CleanEnd),
    row(UNREADABLE, NO, NO, NO, LAST, Verdict::TornTail),
    row(UNREADABLE, NO, YES, NO, LAST, Verdict::Suspect),
    row(ZERO, NO, ANY, ANY, CONTINUED, Verdict::CleanEnd),
    row(UNREADABLE, NO, NO, ANY, CONTINUED, Verdict::TornTail),
    row(UNREADABLE, NO, YES, ANY, CONTINUED, Verdict::Suspect),
];

impl Row {
    fn matches(&self, e: &Evidence) -> bool {
        let flag = |wanted: Option<bool>, is: bool| wanted.is_none_or(|w| w == is);
        (self.tail.is_empty() || self.tail.contains(&e.tail))
            && flag(self.later_valid, e.later_valid)
            && flag(self.long, e.long)
            && flag(self.covered, e.covered)
            && (self.place.is_empty() || self.place.contains(&e.place))
    }
}

/// Looks the evidence up in [`TABLE`].
#[must_use]
pub fn decide(evidence: &Evidence) -> Verdict {
    // A test shows that a row always matches; the fallback is the verdict that touches nothing.
    TABLE.iter().find(|r| r.matches(evidence)).map_or(Verdict::Suspect, |r| r.verdict)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn all() -> Vec<Evidence> {
        let mut out = Vec::new();
        for tail in Tail::ALL {
            for place in Place::ALL {
                for bits in 0..8u8 {
                    let (later_valid, long, covered) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
                    out.push(Evidence { tail, later_valid, long, covered, place });
                }
            }
        }
        out
    }

    #[test]
    fn each_evidence_matches_exactly_one_row() {
        for e in all() {
            let rows: Vec<_> = TABLE.iter().filter(|r| r.matches(&e)).collect();
            assert_eq!(rows.len(), 1, "{e:?}: {rows:?}");
            assert_eq!(decide(&e), rows[0].verdict);
        }
    }

    #[test]
    fn writing_goes_on_in_place_only_after_nothing_at_all() {
        for e in all().into_iter().filter(|e| decide(e) == Verdict::CleanEnd) {
            assert!(e.tail == Tail::Zero && !e.later_valid && e.place != Place::Broken);
        }
    }

    #[test]
    fn durable_data_is_never_called_torn() {
        for e in all().into_iter().filter(|e| decide(e) == Verdict::TornTail) {
            assert!(!e.later_valid && !e.long && e.place != Place::Broken);
            assert!(!e.covered || e.place == Place::Continued);
        }
    }
}
