//! A codec with states, as docs/PROTOCOL.md#codec-5 has them, which are hashes of the events that they know.

use alloc::vec::Vec;

use super::Toy;
use crate::code::Code;
use crate::codec::{Codec, CodecId};
use crate::event::{Chain, Event};
use crate::history::Past;
use crate::time::Instant;
use crate::wire::batch::Columns;

/// States at once. Few, so that they are missing often.
const STATES: usize = 3;
/// Every so often it says that it has no time.
const TURNS: u32 = 24;

/// What a state knows: whether it sends, stream, first event, the one after the last.
type Known = (bool, u32, u64, u64);

#[derive(Clone, Copy, Debug)]
struct State {
    known: Known,
    /// The session whose word it is alone.
    of: Option<u64>,
    hash: Chain,
}

/// A codec with states that only shows whether both ends have the same one.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    /// The one that was used last is the last.
    states: Vec<State>,
    turns: u32,
    sample: Option<u32>,
}

fn known(past: &Past<'_>, sending: bool) -> Known {
    (sending, past.stream, past.from_seq, past.before_seq)
}

fn after<'a>(hash: Chain, events: impl Iterator<Item = Event<'a>>) -> Chain {
    events.fold(hash, |hash, e| hash.then(&e))
}

impl Keeper {
    /// One whose states know something before the first event: [`CodecId::SAMPLED`].
    #[must_use]
    pub fn sampled(tag: u32) -> Self {
        Self { sample: Some(tag), ..Self::default() }
    }

    fn find(&self, past: &Past<'_>, sending: bool) -> Option<usize> {
        let fits = |s: &State| s.known == known(past, sending) && s.of.is_none_or(|of| of == past.session);
        self.states.iter().position(fits)
    }

    /// The state that is wanted, out of its place.
    fn take(&mut self, past: &Past<'_>, sending: bool) -> Option<Chain> {
        if let Some(n) = self.find(past, sending) {
            return Some(self.states.remove(n).hash);
        }
        let learned = past.events().count() as u64 == past.count();
        let mut start = Chain([0; 32]);
        start.0[..4].copy_from_slice(&self.sample.unwrap_or(0).to_le_bytes());
        learned.then(|| after(start, past.events()))
    }

    fn give_back(&mut self, past: &Past<'_>, sending: bool, (hash, raw): (Chain, &[u8])) -> Result<(), Code> {
        let columns = Columns::of(raw, (past.batch_count, past.first_hlc), raw.len())?;
        if self.states.len() == STATES {
            self.states.remove(0);
        }
        let (sending, stream, from, before) = known(past, sending);
        let known = (sending, stream, from, before + past.batch_count);
        let of = (!sending).then_some(past.session);
        self.states.push(State { known, of, hash: after(hash, columns.iter()) });
        Ok(())
    }
}

impl Codec for Keeper {
    fn id(&self) -> CodecId {
        if self.sample.is_some() { CodecId::SAMPLED } else { CodecId::MODEL }
    }

    fn sample(&self) -> u32 {
        self.sample.unwrap_or(0)
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let hash = self.take(past, true)?;
        let packed = Toy::pack(*hash.0.first_chunk()?, raw);
        let room = out.get_mut(..packed.len()).filter(|_| packed.len() < raw.len())?;
        room.copy_from_slice(&packed);
        self.give_back(past, true, (hash, raw)).ok()?;
        Some(packed.len())
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let hash = self.take(past, false).ok_or(Code::BadBatch)?;
        let raw = Toy::unpack(data, out.len()).filter(|raw| raw.len() == out.len());
        let raw = raw.filter(|_| data.starts_with(&hash.0[..4])).ok_or(Code::BadBatch)?;
        out.copy_from_slice(&raw);
        self.give_back(past, false, (hash, &raw))
    }

    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        self.find(past, sending).is_some()
    }

    fn confirm(&mut self) {
        if let Some(s) = self.states.last_mut() {
            s.of = None;
        }
    }

    fn forget(&mut self, stream: u32) {
        self.states.retain(|s| s.known.1 != stream);
    }

    fn suits(&self, link_rate: u64) -> bool {
        link_rate < 37_500
    }

    fn has_time(&mut self, _: Instant) -> bool {
        self.turns += 1;
        !self.turns.is_multiple_of(TURNS)
    }
}
