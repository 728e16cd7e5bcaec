//! Damages that are open, and what each of them waits for before it counts as repaired.

use ropeway_core::code::Code;
use ropeway_core::id::StreamKey;
use ropeway_core::log::{LostRange, REPAIR_MAX_BYTES, RepairHead};
use ropeway_core::node::{Loss, Node};
use ropeway_core::recovery::Recovered;
use ropeway_core::time::Now;

use super::{Ledger, Note};
use crate::store::Damage;

/// Keeps the damages of a running node until they are repaired. One that was found is first listed in
/// the log; the REPAIR that calls it repaired follows when everything is durable again that it has cost:
/// the events named, and, where those may not be all, every event that is missing, and all that those know
/// of whose streams may have lost their end.
#[derive(Debug, Default)]
pub struct Book {
    entries: Vec<Entry>,
    /// What is missing of streams when the log was opened, and streams that may have lost their end.
    gaps: Vec<LostRange>,
    doubts: Vec<StreamKey>,
    /// The durable group at which was looked last.
    seen_group: Option<u64>,
}

#[derive(Debug)]
struct Entry {
    note: Note,
    state: State,
    /// What it has cost shows only when the log is opened again.
    blind: bool,
}

/// How far an entry is. The numbers are those of commit groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Found,
    Listing(u64),
    Listed,
    Repairing(u64),
    Over,
}

impl Book {
    /// The damages of a log that was opened. `found`: all that was found, with the digests of their
    /// pages; `ledger`: what the log tells of them.
    #[must_use]
    pub fn new(recovered: &Recovered<'_>, ledger: &Ledger, found: &[(Damage, [u8; 32])]) -> Self {
        let mut book = Book::default();
        for entry in recovered.frontier() {
            book.gaps.extend(entry.gap.map(|(from, to)| LostRange { key: entry.key, from, to }));
        }
        let mut endless = Vec::new();
        for (key, top, own) in recovered.streams_in_doubt() {
            match own {
                // What a node has lost of its own and never sent nobody can tell.
                true => endless.push(LostRange { key, from: top + 1, to: u64::MAX }),
                false => book.doubts.push(key),
            }
        }
        for note in ledger.notes().iter().filter(|n| !n.head.repaired) {
            book.entries.push(Entry { note: note.clone(), state: State::Listed, blind: false });
        }
        for (damage, digest) in found {
            if damage.is_loss() && damage.code != Code::KeyMissing && ledger.about(damage).is_none() {
                let lost = endless.iter().chain(&book.gaps).copied().collect();
                book.add(damage, *digest, lost, false, false);
            }
        }
        book
    }

    /// Takes note of a damage that was found while the node is at work, with what
    /// [`Store::cost_of`](crate::store::Store::cost_of) says of it. The node learns what it does not hold any
    /// more, and asks its peers for it.
    pub fn found(
        &mut self,
        node: &mut Node<'_>,
        now: Now,
        (damage, digest): (&Damage, [u8; 32]),
        cost: Option<&[Loss]>,
    ) {
        if self.entries.iter().any(|e| e.note.damage() == *damage) {
            return;
        }
        log::error!("{}: segment {}, pages {} to {}", damage.code, damage.segment, damage.from_page, damage.to_page);
        let mut known = cost.is_some();
        for loss in cost.unwrap_or_default() {
            log::error!("{}: events {} to {}", loss.range.key, loss.range.from, loss.range.to);
            known &= node.lose(now, loss);
        }
        let lost = cost.unwrap_or_default().iter().map(|l| l.range).collect();
        self.add(damage, digest, lost, known, !known);
    }

    fn add(&mut self, damage: &Damage, digest: [u8; 32], lost: Vec<LostRange>, cost_known: bool, blind: bool) {
        let Damage { code, segment, from_page, to_page, sealed } = *damage;
        let (repaired, at_ms) = (false, 0);
        let head = RepairHead { repaired, sealed, cost_known, code, segment, from_page, to_page, at_ms, digest };
        self.entries.push(Entry { note: Note { head, lost }, state: State::Found, blind });
        self.seen_group = None;
    }

    /// A peer has told all that it knows: what waits for that is looked at again.
    pub fn poke(&mut self) {
        self.seen_group = None;
    }

    /// Does what can be done now: puts REPAIRs into the log. What it returns is durable there, and is for
    /// [`Store::learn`](crate::store::Store::learn). Call it after completions, until nothing comes.
    pub fn poll(&mut self, node: &mut Node<'_>, now: Now) -> Option<Note> {
        let durable = node.durable_group();
        if self.entries.is_empty() || self.seen_group == Some(durable) {
            return None;
        }
        let mut learnt = None;
        for n in 0..self.entries.len() {
            let repaired = self.is_repaired(node, n);
            let entry = &mut self.entries[n];
            match entry.state {
                State::Found => {
                    // What has cost nothing need not be listed first.
                    let free = entry.note.head.cost_known && entry.note.lost.is_empty();
                    let head = RepairHead { at_ms: now.wall_ms, repaired: free, ..entry.note.head };
                    entry.note.head = head;
                    if let Some(group) = note(node, now, &entry.note) {
                        entry.state = if free { State::Repairing(group) } else { State::Listing(group) };
                    }
                }
                State::Listing(group) if group <= durable => {
                    entry.state = State::Listed;
                    learnt = Some(entry.note.clone());
                }
                State::Listed if repaired => {
                    entry.note.head = RepairHead { repaired: true, at_ms: now.wall_ms, ..entry.note.head };
                    match note(node, now, &entry.note) {
                        Some(group) => entry.state = State::Repairing(group),
                        None => entry.note.head.repaired = false,
                    }
                }
                State::Repairing(group) if group <= durable => {
                    entry.state = State::Over;
                    learnt = Some(entry.note.clone());
                }
                _ => {}
            }
            if learnt.is_some() {
                self.entries.retain(|e| e.state != State::Over);
                return learnt;
            }
        }
        self.seen_group = Some(durable);
        None
    }

    fn is_repaired(&self, node: &Node<'_>, n: usize) -> bool {
        let Some(Entry { note, state: State::Listed, blind: false }) = self.entries.get(n) else { return false };
        let doubted = |key: &StreamKey| node.entry_of(key).is_some_and(|e| e.end_in_doubt);
        let others = || self.gaps.iter().all(|l| node.holds(l)) && !self.doubts.iter().any(doubted);
        note.lost.iter().all(|l| node.holds(l)) && (note.head.cost_known || others())
    }
}

/// Puts a record into the group that fills; that group's number. Without room, later.
fn note(node: &mut Node<'_>, now: Now, note: &Note) -> Option<u64> {
    let mut scratch = [0; REPAIR_MAX_BYTES];
    node.note_repair(now, &note.record(&mut scratch)).ok()
}
