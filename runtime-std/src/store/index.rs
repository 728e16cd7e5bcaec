//! Where the events of each stream stand: sparse, in memory, rebuilt at every open. Sealed segments
//! have an index of their own in the file; of them only the numbers are here.

use std::collections::BTreeMap;

use ropeway_core::id::StreamKey;
use ropeway_core::log::sealed::At;
use ropeway_core::log::{MAX_BODY_BYTES, frame_pages};
use ropeway_core::recovery::{Recovered, RunAt};

use super::checkpoint::Origin;
use crate::repair::Ledger;

/// Pages that one entry covers: a read decrypts at most these in vain (256 KiB).
pub(super) const SPAN_PAGES: u64 = 64;

/// A range of consecutive events somewhere in `SPAN_PAGES` pages from `page` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(super) segment: u64,
    pub(super) page: u64,
    /// Page of the header under which `page` was written.
    pub(super) epoch: u64,
}

/// The index of a log: about 40 bytes per stream and 256 KiB of hot segments in which it occurs.
#[derive(Debug, Default)]
pub struct Index {
    streams: Vec<Vec<Entry>>,
    epoch: u64,
    sealed: Vec<u64>,
    /// The stub that the log begins with.
    stub: Option<u64>,
    /// Up to where streams were removed from the log.
    floors: BTreeMap<StreamKey, u64>,
    /// What the log tells of its damages.
    pub(crate) ledger: Ledger,
    /// What the store needs to write checkpoints; none without it.
    pub(super) origin: Option<Origin>,
}

impl Index {
    /// Takes note of the runs of one group. `epoch`: the page of its header if the group began an
    /// epoch.
    pub(super) fn wrote(&mut self, runs: &[RunAt], segment: u64, page: u64, epoch: Option<u64>) {
        self.epoch = epoch.unwrap_or(self.epoch);
        for run in runs {
            self.add(run, segment, page);
        }
    }

    /// The segment is sealed: what is known of its pages is no longer true.
    pub(super) fn seal(&mut self, segment: u64) {
        for entries in &mut self.streams {
            entries.retain(|e| e.segment != segment);
        }
        let at = self.sealed.partition_point(|s| *s < segment);
        if self.sealed.get(at) != Some(&segment) {
            self.sealed.insert(at, segment);
        }
    }

    /// Takes note of what the log begins with.
    pub(super) fn begins_with(&mut self, recovered: &Recovered<'_>) {
        self.stub = recovered.stub();
        self.ledger.forget_upto(self.stub.unwrap_or(0));
        self.floors = recovered.states().filter_map(|s| Some((s.key, s.floor?.0))).collect();
    }

    /// Everything up to segment `upto` was removed.
    pub(super) fn expire(&mut self, upto: u64, floors: &[(StreamKey, At)]) {
        self.stub = Some(upto);
        self.sealed.retain(|n| *n > upto);
        self.ledger.forget_upto(upto);
        self.floors.extend(floors.iter().map(|(key, at)| (*key, at.0)));
    }

    /// The stub that the log begins with, if its first segments were removed.
    #[must_use]
    pub fn stub(&self) -> Option<u64> {
        self.stub
    }

    /// Up to which event a stream was removed from the log; 0 if all of it is there.
    #[must_use]
    pub fn floor(&self, key: &StreamKey) -> u64 {
        self.floors.get(key).copied().unwrap_or(0)
    }

    /// What the log tells of its damages.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The numbers of the sealed segments, ascending.
    pub(super) fn sealed(&self) -> &[u64] {
        &self.sealed
    }

    pub(super) fn begin_epoch(&mut self, page: u64) {
        self.epoch = page;
    }

    pub(super) fn add(&mut self, run: &RunAt, segment: u64, page: u64) {
        let n = run.stream as usize;
        if self.streams.len() <= n {
            self.streams.resize_with(n + 1, Vec::new);
        }
        let entries = &mut self.streams[n];
        if let Some(last) = entries.last_mut() {
            let near = last.segment == segment && page < last.page + SPAN_PAGES;
            if near && run.first_seq == last.last_seq + 1 {
                last.last_seq = run.last_seq;
                return;
            }
        }
        let entry = Entry { first_seq: run.first_seq, last_seq: run.last_seq, segment, page, epoch: self.epoch };
        // A repair is written later than what follows it in the stream.
        let at = entries.partition_point(|e| e.first_seq <= entry.first_seq);
        entries.insert(at, entry);
    }

    /// The entries that may hold event `seq`, the one written last first. More than one: a group
    /// that held a repair and new events is noted as one range, holes included.
    pub(super) fn find(&self, stream: u32, seq: u64) -> impl Iterator<Item = Entry> + '_ {
        let entries = self.streams.get(stream as usize).map_or(&[][..], Vec::as_slice);
        let end = entries.partition_point(|e| e.first_seq <= seq);
        entries[..end].iter().rev().filter(move |e| e.last_seq >= seq).copied()
    }

    /// The entries, with their streams' numbers, of which something may stand in these pages.
    pub(crate) fn overlapping(&self, segment: u64, from_page: u64, to_page: u64) -> Vec<(u32, Entry)> {
        let reach = SPAN_PAGES + frame_pages(MAX_BODY_BYTES);
        let hit =
            |e: &&Entry| e.segment == segment && e.page < to_page.max(from_page + 1) && e.page + reach > from_page;
        let streams = self.streams.iter().enumerate();
        streams.flat_map(|(n, entries)| entries.iter().filter(hit).map(move |e| (n as u32, *e))).collect()
    }

    /// Where the next entry behind `seq` begins.
    pub(super) fn next_start(&self, stream: u32, seq: u64) -> u64 {
        let entries = self.streams.get(stream as usize).map_or(&[][..], Vec::as_slice);
        entries.get(entries.partition_point(|e| e.first_seq <= seq)).map_or(u64::MAX, |e| e.first_seq)
    }

    /// The next event at or after `seq` that stands in a hot segment.
    pub(super) fn next_from(&self, stream: u32, seq: u64) -> Option<u64> {
        let entries = self.streams.get(stream as usize)?;
        entries.iter().filter(|e| e.last_seq >= seq).map(|e| e.first_seq.max(seq)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first_seq: u64, last_seq: u64) -> RunAt {
        RunAt { stream: 0, first_seq, last_seq }
    }

    #[test]
    fn runs_that_lie_close_share_an_entry_and_repairs_are_found_between_their_neighbours() {
        let mut index = Index::default();
        index.add(&run(1, 4), 1, 1);
        index.add(&run(5, 6), 1, 2);
        index.add(&run(9, 9), 1, 4);
        index.add(&run(7, 8), 2, 1);
        index.add(&run(10, 10), 2, 500);
        assert_eq!(index.find(0, 6).next().map(|e| (e.segment, e.page)), Some((1, 1)));
        assert_eq!(index.find(0, 8).next().map(|e| (e.segment, e.page)), Some((2, 1)));
        assert_eq!(index.find(0, 9).next().map(|e| (e.segment, e.page)), Some((1, 4)));
        assert_eq!(index.find(0, 11).next(), None);
        assert_eq!((index.next_from(0, 3), index.next_from(0, 11), index.next_from(7, 1)), (Some(3), None, None));
    }
}
