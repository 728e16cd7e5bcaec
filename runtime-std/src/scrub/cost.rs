//! Which events a damage has cost, found while everything else is at hand.

use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;
use ropeway_core::log::{LostRange, PAGE_BYTES};
use ropeway_core::node::Loss;
use ropeway_core::policy::{Policy, Principal, ReadGrant, authorize};
use ropeway_core::streams::FrontierEntry;

use crate::store::{Damage, Files, Index, Reader, Stop, Store};

/// A stretch of a stream that may be lost: its number and first and last seq.
type Stretch = (u32, u64, u64);

impl<F: Files> Store<F> {
    /// The events that this damage has cost and that stand nowhere else. `streams`: all that the node
    /// holds, with their numbers. `None` if that cannot be told: what led to them is damaged too.
    pub fn cost_of(&mut self, damage: &Damage, streams: &[(u32, FrontierEntry)]) -> Option<Vec<Loss>> {
        let (reader, index) = self.reader();
        reader.forget(damage.segment);
        let mut stretches = if damage.sealed {
            let bytes = damage.from_page * PAGE_BYTES as u64..damage.to_page * PAGE_BYTES as u64;
            let found = reader.sealed_ranges(damage.segment, bytes)?;
            let numbered = |(key, from, to): (StreamKey, u64, u64)| {
                streams.iter().find(|(_, e)| e.key == key).map(|(n, _)| (*n, from, to))
            };
            found.into_iter().filter_map(numbered).collect()
        } else {
            let mut all = Vec::new();
            for (n, entry) in index.overlapping(damage.segment, damage.from_page, damage.to_page) {
                let (_, stream) = streams.iter().find(|(number, _)| *number == n)?;
                let whole = (entry.first_seq, entry.last_seq);
                all.extend(
                    reader
                        .unread_in(&entry, &stream.key)
                        .into_iter()
                        .map(|(from, to)| (n, from.max(whole.0), to.min(whole.1))),
                );
            }
            all
        };
        stretches.sort_unstable();
        let mut losses = Vec::new();
        for (n, from, to) in joined(stretches) {
            let (_, stream) = streams.iter().find(|(number, _)| *number == n)?;
            let grant = authorize(Policy::Own, Principal::Owner, &stream.key).read?;
            losses.extend(losses_in(reader, index, &grant, (n, from, to.min(stream.top))));
        }
        Some(losses)
    }
}

fn joined(stretches: Vec<Stretch>) -> Vec<Stretch> {
    let mut all: Vec<Stretch> = Vec::new();
    for (n, from, to) in stretches {
        match all.last_mut().filter(|last| last.0 == n && from <= last.2.saturating_add(1)) {
            Some(last) => last.2 = last.2.max(to),
            None => all.push((n, from, to)),
        }
    }
    all
}

/// What of a stretch cannot be read anywhere. What was fetched again once may stand elsewhere.
fn losses_in<F: Files>(
    reader: &mut Reader<F>,
    index: &Index,
    grant: &ReadGrant,
    (n, from, to): Stretch,
) -> Option<Loss> {
    let key = *grant.stream();
    let mut read = |from: u64, to: u64| {
        let (mut first, mut last) = (None, None);
        let _ = reader.read(index, grant, n, from, to, |seq, before, event| {
            first.get_or_insert(*before);
            last = Some((seq, before.then(event)));
            Stop::No
        });
        first.zip(last)
    };
    let mut from = from;
    while from <= to {
        let Some((_, (last, _))) = read(from, to) else { break };
        from = last + 1;
    }
    if from > to {
        return None;
    }
    let before: Option<Chain> = match from {
        1 => Some(Chain::start(&key)),
        _ => read(from - 1, from - 1).map(|(_, (_, after))| after),
    };
    let last = to.checked_add(1).and_then(|next| read(next, next)).map(|(chain, _)| chain);
    Some(Loss { range: LostRange { key, from, to }, before, last })
}
