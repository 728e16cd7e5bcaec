//! Codecs that count what they do for whom.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId, CodecRef, Codecs};
use ropeway_core::history::Past;
use ropeway_core::time::Instant;
use ropeway_std::model_codec::ModelCodec;
use ropeway_std::zstd_codec::ZstdHistory;

use crate::cpu;

/// What one codec has decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) batches: u64,
    /// Batches that refer to events, and how many of them met a state that knew these.
    pub(super) primed: u64,
    pub(super) hits: u64,
    /// Bytes of events that were learned anew.
    pub(super) learned: u64,
    pub(super) cpu: Duration,
    /// Of those whose events had to be learned.
    pub(super) miss_cpu: Duration,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.batches += other.batches;
        self.primed += other.primed;
        self.hits += other.hits;
        self.learned += other.learned;
        self.cpu += other.cpu;
        self.miss_cpu += other.miss_cpu;
    }
}

/// Of the model, and of zstd.
pub(super) type Tallies = [Tally; 2];
/// Where the model stands in [`Tallies`].
pub(super) const MODEL: usize = 0;
/// And zstd.
pub(super) const ZSTD: usize = 1;

/// Tallies of a hub's sessions, by the number that a codec is told of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch(Arc<Mutex<HashMap<u64, Tallies>>>);

impl Watch {
    /// The codecs that a node has, watched.
    pub(super) fn codecs(&self, states: usize) -> Codecs<'static> {
        let model =
            Watched { codec: ModelCodec::new(states), which: MODEL, learned: ModelCodec::learned, watch: self.clone() };
        let zstd = Watched { codec: ZstdHistory, which: ZSTD, learned: |_| 0, watch: self.clone() };
        Codecs::default().with(CodecRef::Owned(Box::new(model))).with(CodecRef::Owned(Box::new(zstd)))
    }

    /// What was done for the session in this place of the node's table; it begins anew then.
    pub(super) fn take(&self, index: usize) -> Tallies {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sum = Tallies::default();
        // The lower half of the number is the place.
        of.retain(|session, tallies| {
            let is_it = (*session as u32) as usize == index;
            if is_it {
                sum.iter_mut().zip(tallies).for_each(|(sum, t)| sum.add(t));
            }
            !is_it
        });
        sum
    }

    fn add(&self, session: u64, which: usize, tally: &Tally) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(session).or_default()[which].add(tally);
    }
}

/// A codec, and who counts.
struct Watched<C> {
    codec: C,
    which: usize,
    learned: fn(&C) -> u64,
    watch: Watch,
}

impl<C: Codec> Codec for Watched<C> {
    fn id(&self) -> CodecId {
        self.codec.id()
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        self.codec.compress_after(past, raw, out)
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let is_primed = past.count() > 0;
        let hit = is_primed && self.codec.has_state(past, false);
        let before = (self.learned)(&self.codec);
        let (done, cpu) = cpu::timed(|| self.codec.decompress_after(past, data, out));
        let learned = (self.learned)(&self.codec) - before;
        let miss_cpu = if is_primed && !hit { cpu } else { Duration::ZERO };
        let (primed, hits) = (u64::from(is_primed), u64::from(hit));
        self.watch.add(past.session, self.which, &Tally { batches: 1, primed, hits, learned, cpu, miss_cpu });
        done
    }

    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        self.codec.has_state(past, sending)
    }

    fn confirm(&mut self) {
        self.codec.confirm();
    }

    fn forget(&mut self, stream: u32) {
        self.codec.forget(stream);
    }

    fn suits(&self, link_rate: u64) -> bool {
        self.codec.suits(link_rate)
    }

    fn has_time(&mut self, now: Instant) -> bool {
        self.codec.has_time(now)
    }

    fn promise(&mut self, now: Instant) -> bool {
        self.codec.promise(now)
    }
}
