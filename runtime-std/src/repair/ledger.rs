//! What a log tells of its damages: the newest REPAIR of each.

use ropeway_core::code::Code;
use ropeway_core::log::{LostRange, REPAIR_MAX_BYTES, Repair, RepairHead};

use crate::store::Damage;

/// Notes of repaired damage that are kept; the oldest are forgotten first.
const REPAIRED_MAX: usize = 1024;

/// A REPAIR, kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it says.
    pub head: RepairHead,
    /// The events that the damage has cost, as far as known.
    pub lost: Vec<LostRange>,
}

impl From<&Repair<'_>> for Note {
    fn from(repair: &Repair<'_>) -> Self {
        Note { head: repair.head, lost: repair.lost().collect() }
    }
}

impl Note {
    /// The record.
    pub(crate) fn record<'a>(&self, scratch: &'a mut [u8; REPAIR_MAX_BYTES]) -> Repair<'a> {
        Repair::new(&self.head, &self.lost, scratch)
    }

    /// Where the damage is.
    #[must_use]
    pub fn damage(&self) -> Damage {
        let RepairHead { code, segment, from_page, to_page, sealed, .. } = self.head;
        Damage { code, segment, from_page, to_page, sealed }
    }

    fn covers(&self, (segment, sealed): (u64, bool), (from, to): (u64, u64)) -> bool {
        let h = &self.head;
        (h.segment, h.sealed) == (segment, sealed) && h.from_page <= from && to <= h.to_page
    }
}

/// What became of a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It has cost nothing: a torn write, or rot beside the content.
    Harmless,
    /// Events may be missing. Since when the log tells of it (milliseconds since 1970), if it does.
    Open(Option<u64>),
    /// All that it has cost is held again, since then (milliseconds since 1970).
    Repaired(u64),
}

/// A damage, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The damage.
    pub damage: Damage,
    /// What became of it.
    pub fate: Fate,
    /// The events that it has cost, as far as the log tells.
    pub lost: Vec<LostRange>,
}

impl Judged {
    /// True if something may be lost.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        matches!(self.fate, Fate::Open(_))
    }
}

/// See this file's head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    notes: Vec<Note>,
}

impl Ledger {
    /// Takes the next REPAIR of the log. It speaks for all that it covers.
    pub fn take(&mut self, note: Note) {
        let (place, pages) = ((note.head.segment, note.head.sealed), (note.head.from_page, note.head.to_page));
        self.notes.retain(|n| !note.covers((n.head.segment, n.head.sealed), (n.head.from_page, n.head.to_page)));
        // What lies within a wider one that is open says nothing new.
        if self.notes.iter().any(|n| n.covers(place, pages) && !n.head.repaired && !note.head.repaired) {
            return;
        }
        self.notes.push(note);
        let repaired = self.notes.iter().filter(|n| n.head.repaired).count();
        if repaired > REPAIRED_MAX
            && let Some(oldest) = self.notes.iter().position(|n| n.head.repaired)
        {
            self.notes.remove(oldest);
        }
    }

    /// Everything up to this segment was removed from the log, and what was wrong with it.
    pub(crate) fn forget_upto(&mut self, segment: u64) {
        self.notes.retain(|n| n.head.segment > segment);
    }

    /// All of it, in the order of the log.
    #[must_use]
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// What the log tells of this damage.
    #[must_use]
    pub fn about(&self, damage: &Damage) -> Option<&Note> {
        let place = (damage.segment, damage.sealed);
        self.notes.iter().rev().find(|n| n.covers(place, (damage.from_page, damage.to_page)))
    }

    /// Where the damage ends that begins at this page of a hot segment or holds it, if the log tells of it.
    /// `repaired`: only if it counts as repaired.
    pub(crate) fn hot_damage_at(&self, segment: u64, page: u64, repaired: bool) -> Option<u64> {
        let here = |n: &&Note| {
            let h = &n.head;
            let within = h.from_page <= page && (page < h.to_page || page == h.from_page);
            (h.segment, h.sealed) == (segment, false) && within && (h.repaired || !repaired)
        };
        self.notes.iter().filter(here).map(|n| n.head.to_page).max()
    }

    /// What became of each damage that was found, and of those that are only told of any more: their
    /// segments were sealed without them.
    #[must_use]
    pub fn judge(&self, found: &[Damage]) -> Vec<Judged> {
        let mut told = vec![false; self.notes.len()];
        let mut all: Vec<Judged> = Vec::new();
        for damage in found {
            let about = self.about(damage);
            if let Some(n) = about.and_then(|a| self.notes.iter().position(|n| n == a)) {
                told[n] = true;
            }
            let fate = match about {
                _ if !damage.is_loss() => Fate::Harmless,
                Some(n) if n.head.repaired => Fate::Repaired(n.head.at_ms),
                // It is back in reach if its key is.
                Some(n) if damage.code != Code::KeyMissing => Fate::Open(Some(n.head.at_ms)),
                _ => Fate::Open(None),
            };
            all.push(Judged { damage: damage.clone(), fate, lost: about.map_or_else(Vec::new, |n| n.lost.clone()) });
        }
        for (note, _) in self.notes.iter().zip(told).filter(|(_, told)| !told) {
            let at = note.head.at_ms;
            let fate = if note.head.repaired { Fate::Repaired(at) } else { Fate::Open(Some(at)) };
            all.push(Judged { damage: note.damage(), fate, lost: note.lost.clone() });
        }
        all
    }
}
