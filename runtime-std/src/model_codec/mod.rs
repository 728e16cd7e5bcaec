//! The codec that learns: batches through `ropeway-codec`, with states that go on from one to the next.
//!
//! A state that has coded a stream's events is the same as one that has learned them (docs/PROTOCOL.md#codec-4), so
//! a session keeps one and needs nothing else of the events before a batch. What a state should know and does not is
//! learned anew, from the events themselves: at some 2 MB a second on a fast core.
//!
//! | file | what it is |
//! |---|---|
//! | `pool` | the states, shared by all sessions |
//! | `load` | how much may be learned anew |

mod load;
mod pool;
#[cfg(test)]
mod tests;

use ropeway_codec::{Event as ModelEvent, Preset, Stream};
use ropeway_core::code::Code;
use ropeway_core::codec::{Codec, CodecId};
use ropeway_core::event::{Event, flags};
use ropeway_core::history::Past;
use ropeway_core::hlc::Hlc;
use ropeway_core::time::Instant;
use ropeway_core::wire::batch::{Columns, put_columns};

use crate::sample::Sample;
use load::Load;
use pool::{Pool, Wanted};

// The number on the wire is this very model with its largest tables; another one needs another number.
const _: () = assert!(ropeway_codec::VERSION == 4);

/// Links that carry more bytes a second (300 kbit/s) get zstd's: there a small computer takes longer for a byte than
/// the link does.
const SLOW_LINK: u64 = 37_500;

/// See the [module](self).
#[derive(Debug)]
pub struct ModelCodec {
    pool: Pool,
    load: Load,
    packed: Vec<u8>,
    sample: Option<u32>,
}

impl ModelCodec {
    /// With room for so many states of about 3 MB, at least one. Each is made when it is needed, and stays.
    #[must_use]
    pub fn new(states: usize) -> Self {
        Self { pool: Pool::new(states), load: Load::default(), packed: Vec::new(), sample: None }
    }

    /// One whose states know a sample before the first event: [`CodecId::SAMPLED`] (docs/PROTOCOL.md#sample-1). It
    /// keeps one state more.
    #[must_use]
    pub fn sampled(states: usize, sample: &Sample) -> Self {
        let mut base = Stream::new(Preset::Large);
        for bytes in sample.events() {
            base.prime(&ModelEvent { bytes, ..ModelEvent::default() });
        }
        Self { pool: Pool::over(base, states), sample: Some(sample.tag()), ..Self::new(states) }
    }

    /// Bytes of events that were learned anew so far.
    #[must_use]
    pub fn learned(&self) -> u64 {
        self.load.learned()
    }
}

fn wanted(past: &Past<'_>, sending: bool) -> Wanted {
    let Past { session, stream, from_seq, before_seq, .. } = *past;
    Wanted { sending, session, stream, from_seq, before_seq }
}

/// What a state knows behind the batch.
fn behind(past: &Past<'_>, sending: bool) -> Wanted {
    let wanted = wanted(past, sending);
    Wanted { before_seq: wanted.before_seq.saturating_add(past.batch_count), ..wanted }
}

fn to_model<'a>(e: &Event<'a>) -> ModelEvent<'a> {
    let mark = e.flags & flags::UNSYNCED != 0;
    ModelEvent { ms: e.hlc.ms(), counter: e.hlc.counter(), mark, kind: e.kind, bytes: e.payload }
}

fn from_model(e: ModelEvent<'_>) -> Event<'_> {
    let flags = if e.mark { flags::UNSYNCED } else { 0 };
    Event { hlc: Hlc::new(e.ms, e.counter), kind: e.kind, flags, payload: e.bytes }
}

impl Codec for ModelCodec {
    fn id(&self) -> CodecId {
        if self.sample.is_some() { CodecId::SAMPLED } else { CodecId::MODEL }
    }

    fn sample(&self) -> u32 {
        self.sample.unwrap_or(0)
    }

    fn compress_after(&mut self, past: &Past<'_>, raw: &[u8], out: &mut [u8]) -> Option<usize> {
        let columns = Columns::of(raw, (past.batch_count, past.first_hlc), raw.len()).ok()?;
        let events: Vec<_> = columns.iter().map(|e| to_model(&e)).collect();
        let n = self.pool.take(&wanted(past, true), past, &mut self.load)?;
        self.packed.clear();
        self.pool.state(n).encode(&events, &mut self.packed);
        // If not, the batch goes another way, and the state, which knows what the peer's will not, is not given back.
        let room = out.get_mut(..self.packed.len()).filter(|_| self.packed.len() < raw.len())?;
        room.copy_from_slice(&self.packed);
        self.pool.give_back(n, behind(past, true), true);
        Some(self.packed.len())
    }

    fn decompress_after(&mut self, past: &Past<'_>, data: &[u8], out: &mut [u8]) -> Result<(), Code> {
        let first = (past.first_hlc.ms(), past.first_hlc.counter());
        let count = usize::try_from(past.batch_count).map_err(|_| Code::BadBatch)?;
        let n = self.pool.take(&wanted(past, false), past, &mut self.load).ok_or(Code::BadBatch)?;
        let events = self.pool.state(n).decode(data, count, first, out.len()).map_err(|_| Code::BadBatch)?;
        if put_columns(events.iter().map(from_model), out) != Some(out.len()) {
            return Err(Code::BadBatch);
        }
        // The chain has yet to show that they are the stream's.
        self.pool.give_back(n, behind(past, false), false);
        Ok(())
    }

    fn has_state(&mut self, past: &Past<'_>, sending: bool) -> bool {
        self.pool.has(&wanted(past, sending))
    }

    fn confirm(&mut self) {
        self.pool.prove_last();
    }

    fn forget(&mut self, stream: u32) {
        self.pool.forget(stream);
    }

    fn refused(&mut self, session: u64) {
        self.pool.drop_of(session);
    }

    fn suits(&self, link_rate: u64) -> bool {
        link_rate < SLOW_LINK
    }

    fn has_time(&mut self, now: Instant) -> bool {
        self.load.has_time(now)
    }

    fn promise(&mut self, now: Instant) -> bool {
        self.load.promise(now)
    }
}
