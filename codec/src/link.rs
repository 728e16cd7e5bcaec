//! Values that occur twice in a record: which earlier path had the value of this one?
//!
//! Forms repeat identifiers (the patient's, the visit's) under several keys. When a value equals
//! one that stood earlier in the same record, its path is linked to that path; the next time a value
//! begins at this path, the linked path's newest value is a candidate, however random it looks.

use alloc::vec;
use alloc::vec::Vec;

use crate::tracker::Value;

/// Shorter values are equal by chance.
const LEN_MIN: u32 = 5;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    hash: u32,
    path: u32,
    record: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Link {
    path: u32,
    source: u32,
}

/// Values seen, and links between paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Links {
    seen: Vec<Seen>,
    links: Vec<Link>,
    record: u32,
}

impl Links {
    /// For about `2^bits` values.
    pub(crate) fn new(bits: u32) -> Self {
        Self { seen: vec![Seen::default(); 1 << bits], links: vec![Link::default(); 1 << (bits - 2)], record: 1 }
    }

    pub(crate) fn begin_record(&mut self) {
        self.record = self.record.wrapping_add(1);
    }

    /// The path whose value the one at `path` equalled the last time.
    pub(crate) fn source(&self, path: u32) -> Option<u32> {
        let link = self.links[path as usize % self.links.len()];
        (link.path == path && link.source != 0).then_some(link.source)
    }

    /// Notes a value; whether it is known from before.
    pub(crate) fn note(&mut self, value: &Value) -> bool {
        if value.len < LEN_MIN {
            return false;
        }
        let at = value.hash as usize % self.seen.len();
        let seen = self.seen[at];
        let is_known = seen.hash == value.hash;
        if is_known && seen.record == self.record {
            if seen.path != value.path {
                let at = value.path as usize % self.links.len();
                self.links[at] = Link { path: value.path, source: seen.path };
            }
        } else {
            self.seen[at] = Seen { hash: value.hash, path: value.path, record: self.record };
        }
        is_known
    }

    pub(crate) fn reset(&mut self) {
        self.seen.fill(Seen::default());
        self.links.fill(Link::default());
        self.record = 1;
    }

    pub(crate) fn bytes(&self) -> usize {
        self.seen.len() * size_of::<Seen>() + self.links.len() * size_of::<Link>()
    }
}
