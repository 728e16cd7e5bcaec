//! Events of a log: records that have a stamp, a kind and a mark, coded in one piece with them.
//!
//! A stamp is milliseconds and a counter, and grows from event to event. Seconds since the one before
//! are coded as a number whose size and first digits are learned; the milliseconds within the second
//! cost nothing where stamps tick in whole seconds. A kind is mostly the one that followed the kind
//! before the last time.

use alloc::vec;
use alloc::vec::Vec;

use crate::batch::{DecodeError, Model, Record, Records};
use crate::coder::{Coder, Emit, Learn, Read};
use crate::counter::{Counter, Counters};
use crate::preset::Preset;

/// A record of a log, and what is told of it besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Event<'a> {
    /// Its stamp: milliseconds since 1970, at most 2^48 - 2.
    pub ms: u64,
    /// What tells it from others of the same millisecond.
    pub counter: u16,
    /// A mark of the stamp.
    pub mark: bool,
    /// The application's type.
    pub kind: u16,
    /// Its content.
    pub bytes: &'a [u8],
}

/// Events that were decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    heads: Vec<(u64, u16, bool, u16)>,
    records: Records,
}

impl Events {
    /// They, in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> + Clone {
        let both = self.heads.iter().zip(self.records.iter());
        both.map(|(&(ms, counter, mark, kind), bytes)| Event { ms, counter, mark, kind, bytes })
    }
}

/// All that is known of a stream of events so far: a [`Model`], and what it has seen of stamps and kinds.
///
/// ```
/// use ropeway_codec::{Event, Preset, Stream};
///
/// let event = |n: u64| Event { ms: 1_000 * n, kind: 7, bytes: br#"{"pulse":92}"#, ..Event::default() };
/// let (mut here, mut there) = (Stream::new(Preset::Small), Stream::new(Preset::Small));
/// (1..60).for_each(|n| here.prime(&event(n)));
/// (1..60).for_each(|n| there.prime(&event(n)));
/// let mut batch = Vec::new();
/// here.encode(&[event(60), event(61)], &mut batch);
/// let events = there.decode(&batch, 2, (60_000, 0), 1_000)?;
/// assert!(events.iter().eq([event(60), event(61)]) && batch.len() <= 3);
/// assert!(here == there);
/// # Ok::<(), ropeway_codec::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    model: Model,
    heads: Heads,
}

impl Stream {
    /// That has seen nothing. All its memory is taken here.
    pub fn new(preset: Preset) -> Self {
        Self { model: Model::new(preset), heads: Heads::new() }
    }

    /// Forgets everything, as if made anew.
    pub fn reset(&mut self) {
        self.model.reset();
        self.heads = Heads::new();
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.model.memory_bytes() + self.heads.residues.bytes()
    }

    /// Learns an event that both ends have: the state becomes what coding it would have made it, in
    /// whatever batch.
    pub fn prime(&mut self, event: &Event<'_>) {
        let _ = self.heads.code(&mut Learn, event, true);
        self.model.pass(&mut Learn, &record(event));
    }

    /// Appends a batch to `out`. The receiver must have the same state, and must know the number of
    /// events and the stamp of the first. What cannot be made smaller grows by a bit or two per event
    /// and what its stamp and length take.
    pub fn encode(&mut self, events: &[Event<'_>], out: &mut Vec<u8>) {
        let mut emit = Emit::new(out);
        for (n, event) in events.iter().enumerate() {
            let _ = self.heads.code(&mut emit, event, n == 0);
            self.model.pass(&mut emit, &record(event));
        }
        emit.finish();
    }

    /// Decodes a batch of `count` events, whose contents have `limit` bytes together at most.
    ///
    /// As of [`Model::decode`]: of garbage comes an error, or garbage; time and memory are in proportion
    /// to `count` and `limit`.
    ///
    /// # Errors
    /// [`DecodeError`], after which the state is of no use.
    pub fn decode(
        &mut self,
        batch: &[u8],
        count: usize,
        first: (u64, u16),
        limit: usize,
    ) -> Result<Events, DecodeError> {
        let mut read = Read::new(batch);
        let mut events = Events::default();
        let mut event = Event { ms: first.0, counter: first.1, ..Event::default() };
        for n in 0..count {
            event = self.heads.code(&mut read, &event, n == 0).ok_or(DecodeError::Stamp)?;
            events.heads.push((event.ms, event.counter, event.mark, event.kind));
            self.model.record(&mut read, Some(event.ms), limit, &mut events.records)?;
            if read.is_overrun() {
                return Err(DecodeError::Truncated);
            }
        }
        if read.left_over() == 0 { Ok(events) } else { Err(DecodeError::Trailing) }
    }
}

fn record<'a>(event: &Event<'a>) -> Record<'a> {
    Record { bytes: event.bytes, hlc_ms: Some(event.ms) }
}

const EVEN: i32 = 32_768;
/// Binary digits of a number at most: a stamp has 48.
const DIGITS: usize = 48;
/// First digits of a number that are learned.
const LEARNED: usize = 3;
const LIMIT: u32 = 250;

/// A number: how many binary digits it has, then these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Number {
    more: [Counter; DIGITS],
    first: [[Counter; 1 << LEARNED]; DIGITS + 1],
}

impl Number {
    const NEW: Self =
        Self { more: [Counter::new(EVEN, 1); DIGITS], first: [[Counter::new(EVEN, 3); 1 << LEARNED]; DIGITS + 1] };

    fn code<C: Coder>(&mut self, coder: &mut C, n: u64) -> u64 {
        let n = n.saturating_add(1);
        let mut digits = 0;
        while digits < DIGITS && decide(coder, &mut self.more[digits], (n >> digits) > 1) {
            digits += 1;
        }
        let mut value = 1u64;
        for place in 0..digits {
            let digit = n >> (digits - 1 - place) & 1 == 1;
            let digit = if place < LEARNED {
                decide(coder, &mut self.first[digits][value as usize & ((1 << LEARNED) - 1)], digit)
            } else {
                coder.code(digit, EVEN)
            };
            value = value << 1 | u64::from(digit);
        }
        value - 1
    }
}

fn decide<C: Coder>(coder: &mut C, counter: &mut Counter, bit: bool) -> bool {
    let bit = coder.code(bit, counter.p());
    counter.update(bit, LIMIT);
    bit
}

/// What came before, of all but the contents.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Heads {
    /// Stamp, mark and kind of the last event.
    last: Option<(u64, u16, bool, u16)>,
    same_ms: [Counter; 2],
    was_same: bool,
    seconds: Number,
    /// Whether a stamp is at a whole second; if not, its milliseconds within it.
    whole: Counter,
    residues: Counters,
    /// Whether the counter is the next one, or 0 in another millisecond.
    plain: [Counter; 2],
    counters: [Number; 2],
    mark: [Counter; 2],
    /// What followed a kind the last time, by its lowest bits.
    after: Vec<u16>,
    expected: [Counter; 16],
    kinds: Number,
}

impl Heads {
    fn new() -> Self {
        Self {
            last: None,
            same_ms: [Counter::new(EVEN, 1); 2],
            was_same: false,
            seconds: Number::NEW,
            whole: Counter::new(EVEN, 1),
            residues: Counters::new(10, Counter::new(EVEN, 6)),
            plain: [Counter::new(60_000, 2); 2],
            counters: [Number::NEW; 2],
            mark: [Counter::new(1_000, 2), Counter::new(64_000, 2)],
            after: vec![0; 256],
            expected: [Counter::new(EVEN, 1); 16],
            kinds: Number::NEW,
        }
    }

    /// Codes all but the content. The stamp of a batch's first event is known at both ends, and only
    /// learned. `None` for a stamp or a kind that cannot be.
    fn code<'a, C: Coder>(&mut self, coder: &mut C, event: &Event<'a>, first: bool) -> Option<Event<'a>> {
        let (ms, counter) = match (first, self.last) {
            (true, last) => {
                if let Some((ms, counter, ..)) = last {
                    let _ = self.stamp(&mut Learn, (ms, counter), event);
                }
                (event.ms, event.counter)
            }
            (false, last) => {
                let (ms, counter, ..) = last?;
                self.stamp(coder, (ms, counter), event)?
            }
        };
        let (_, _, last_mark, last_kind) = self.last.unwrap_or_default();
        let mark = decide(coder, &mut self.mark[usize::from(last_mark)], event.mark);
        let expected = self.after[usize::from(last_kind & 255)];
        let kind = if decide(coder, &mut self.expected[usize::from(last_kind & 15)], event.kind == expected) {
            expected
        } else {
            u16::try_from(self.kinds.code(coder, u64::from(event.kind))).ok()?
        };
        self.after[usize::from(last_kind & 255)] = kind;
        self.last = Some((ms, counter, mark, kind));
        Some(Event { ms, counter, mark, kind, bytes: event.bytes })
    }

    /// Codes a stamp behind another.
    fn stamp<C: Coder>(&mut self, coder: &mut C, last: (u64, u16), event: &Event<'_>) -> Option<(u64, u16)> {
        let same = decide(coder, &mut self.same_ms[usize::from(self.was_same)], event.ms == last.0);
        self.was_same = same;
        let ms = if same { last.0 } else { self.milliseconds(coder, last.0, event.ms)? };
        let base = if same { u64::from(last.1) + 1 } else { 0 };
        let which = usize::from(same);
        let more = u64::from(event.counter).saturating_sub(base);
        let more = if decide(coder, &mut self.plain[which], more == 0) {
            0
        } else {
            self.counters[which].code(coder, more - u64::from(more > 0)) + 1
        };
        Some((ms, u16::try_from(base + more).ok()?))
    }

    /// Codes milliseconds that are later than the last.
    fn milliseconds<C: Coder>(&mut self, coder: &mut C, last: u64, ms: u64) -> Option<u64> {
        let seconds = self.seconds.code(coder, (ms / 1000).saturating_sub(last / 1000));
        let residue = ms % 1000;
        let residue = if decide(coder, &mut self.whole, residue == 0) {
            0
        } else {
            let node = (0..10).rev().fold(1u32, |node, i| {
                node << 1 | u32::from(decide(coder, self.residues.at(node), residue >> i & 1 == 1))
            });
            u64::from(node & 1023)
        };
        let ms = (last / 1000).checked_add(seconds)?.checked_mul(1000)?.checked_add(residue)?;
        (ms > last && ms < (1 << 48) - 1).then_some(ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: u64, ms: u64, bytes: &'static [u8]) -> Event<'static> {
        Event { ms, counter: (n % 5) as u16, mark: n.is_multiple_of(7), kind: (n % 3) as u16 * 1_000, bytes }
    }

    fn events(step: impl Fn(u64) -> u64) -> Vec<Event<'static>> {
        let mut ms = 1_770_000_000_000;
        let payloads: [&[u8]; 4] = [br#"{"type":"vitals","pulse":92}"#, b"", b"plain text", br#"{"type":"visit"}"#];
        (0..400)
            .map(|n| {
                ms += step(n);
                event(n, ms, payloads[n as usize % 4])
            })
            .collect()
    }

    #[test]
    fn coded_in_any_batches_or_learned_the_state_is_the_same() {
        let steps: [fn(u64) -> u64; 3] =
            [|n| 1 + n * n % 777, |n| 1_000 * (1 + n % 100), |n| 1 + (u64::from(n == 9) << 40)];
        for step in steps {
            let events = events(step);
            let mut learned = Stream::new(Preset::Small);
            events.iter().for_each(|e| learned.prime(e));
            for size in [1, 7, 400] {
                let (mut here, mut there) = (Stream::new(Preset::Small), Stream::new(Preset::Small));
                for batch in events.chunks(size) {
                    let mut out = vec![9; 3];
                    here.encode(batch, &mut out);
                    let first = (batch[0].ms, batch[0].counter);
                    let got = there.decode(&out[3..], batch.len(), first, 20_000).unwrap();
                    assert!(got.iter().eq(batch.iter().copied()));
                }
                assert!(here == learned && there == learned);
            }
            learned.reset();
            assert!(learned == Stream::new(Preset::Small));
        }
    }

    #[test]
    fn counters_of_one_millisecond_and_the_ends_of_the_range_round_trip() {
        let top = (1 << 48) - 2;
        let stamps =
            [(0, 0), (0, 1), (0, 9), (0, u16::MAX), (1, 0), (999, 3), (1_000, 0), (top - 1, 7), (top, u16::MAX)];
        let events: Vec<_> =
            stamps.iter().map(|&(ms, counter)| Event { ms, counter, kind: u16::MAX, ..Event::default() }).collect();
        let mut out = Vec::new();
        Stream::new(Preset::Small).encode(&events, &mut out);
        let got = Stream::new(Preset::Small).decode(&out, events.len(), (0, 0), 0).unwrap();
        assert!(got.iter().eq(events));
    }

    #[test]
    fn stamps_in_whole_seconds_cost_less_than_a_byte_and_kinds_nothing() {
        let event =
            |n: u64| Event { ms: 1_000 * (n * 120 + n * n * 7 % 60), kind: 3, bytes: b"{}", ..Event::default() };
        let mut stream = Stream::new(Preset::Small);
        (1..600).for_each(|n| stream.prime(&event(n)));
        let mut out = Vec::new();
        let events: Vec<_> = (600..800).map(event).collect();
        stream.encode(&events, &mut out);
        assert!(out.len() < 200, "{}", out.len());
    }

    #[test]
    fn garbage_is_an_error_or_stays_within_its_limits() {
        let mut seed = 5u32;
        for n in 0..300 {
            let batch: Vec<u8> = (0..n % 60)
                .map(|i| {
                    seed = crate::math::mix(seed, i);
                    (seed >> 9) as u8
                })
                .collect();
            let got = Stream::new(Preset::Small).decode(&batch, 40, (77, 1), 500);
            if let Ok(events) = got {
                let all: Vec<_> = events.iter().collect();
                assert!(all.is_sorted_by(|a, b| (a.ms, a.counter) < (b.ms, b.counter)));
                assert!(all.iter().map(|e| e.bytes.len()).sum::<usize>() <= 500);
            }
        }
    }
}
