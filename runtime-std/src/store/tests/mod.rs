//! The store over a disk in memory that can be stopped at any call.

mod checkpoint;
mod disk;
mod expire;
mod headers;
mod log;
mod seal;
mod twice;

use std::collections::BTreeMap;

use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::log::sealed::{LogState, StreamState};
use ropeway_core::log::{DataKey, MAX_BODY_BYTES};
use ropeway_core::policy::{Policy, Principal, authorize};
use ropeway_core::streams::FrontierEntry;

use super::{Damage, Opened, Reader, Sealing, Segments, Stop, Store, recover_files, recover_quickly, recover_to_write};
use crate::error::Result;
use disk::Disk;

fn name() -> NodeName {
    NodeName::new("clinic_a").unwrap()
}

fn keys() -> Vec<(u32, DataKey)> {
    vec![(1, DataKey::new([0x11; 32]))]
}

/// Random numbers that are the same in every run.
#[derive(Clone)]
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }

    fn seed(&mut self) -> Result<[u8; 32]> {
        Ok(std::array::from_fn(|_| self.next() as u8))
    }
}

/// Stamp, kind, payload, and the chain hash before.
type Stored = (u64, u16, Vec<u8>, [u8; 32]);

/// All that a log holds: what must stay the same however it is stored.
#[derive(Debug, PartialEq)]
struct Content {
    streams: Vec<FrontierEntry>,
    states: Vec<StreamState>,
    state: LogState,
    events: BTreeMap<(StreamKey, u64), Stored>,
    losses: Vec<Damage>,
    groups: u64,
}

fn open(disk: &Disk) -> Result<Opened> {
    recover_files(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES)
}

fn content(disk: &Disk) -> Content {
    let opened = open(disk).unwrap();
    content_of(disk, &opened)
}

/// As [`content`], opened by the checkpoint.
fn content_quickly(disk: &Disk) -> Content {
    let opened = recover_quickly(&mut disk.mount(), &keys(), name(), 4, MAX_BODY_BYTES).unwrap();
    content_of(disk, &opened)
}

fn content_of(disk: &Disk, opened: &Opened) -> Content {
    let mut reader = Reader::over(disk.mount(), keys());
    let mut events = BTreeMap::new();
    for (n, entry) in opened.recovered.streams() {
        let grant = authorize(Policy::Own, Principal::Owner, &entry.key).read.unwrap();
        let mut next = 1 + entry.floor;
        while next <= entry.top {
            let from = next;
            let _ = reader.read(&opened.index, &grant, n, from, entry.top, |seq, chain, e| {
                events.insert((entry.key, seq), (e.hlc.as_u64(), e.kind, e.payload.to_vec(), chain.0));
                next = seq + 1;
                Stop::No
            });
            if next == from {
                next = reader.next_from(&opened.index, n, &entry.key, from + 1).unwrap_or(u64::MAX);
            }
        }
    }
    let mut streams: Vec<_> = opened.recovered.frontier().collect();
    streams.sort_by_key(|e| e.key);
    let mut states: Vec<_> = opened.recovered.states().collect();
    states.sort_by_key(|s| s.key);
    // Events that stand twice in a segment are sealed once.
    let state = LogState { events: 0, ..opened.recovered.log_state(0, [0; 16], opened.groups) };
    let losses = opened.damages.iter().filter(|d| d.is_loss()).cloned().collect();
    Content { streams, states, state, events, losses, groups: opened.groups }
}

/// Opens for writing, as a daemon does; everything but the newest segment may be sealed.
fn store(disk: &Disk) -> Result<Store<disk::Mount>> {
    let mut segments = Segments::over(disk.mount(), log::SEGMENT_BYTES);
    let opened = recover_to_write(&mut segments, &keys(), name(), 4, MAX_BODY_BYTES)?;
    Ok(Store::over(segments, Reader::over(disk.mount(), keys()), opened.index))
}

/// Seals all that can be sealed; the numbers.
fn seal_all(store: &mut Store<disk::Mount>) -> Vec<u64> {
    let mut rng = Rng(77);
    let mut sealed = Vec::new();
    for _ in 0..100_000 {
        match store.seal(&mut || rng.seed()) {
            Sealing::Idle => return sealed,
            Sealing::Sealed(n) => sealed.push(n),
            Sealing::Working | Sealing::Kept(_) => {}
        }
    }
    panic!("sealing does not end");
}
