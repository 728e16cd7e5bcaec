//! Batches of records: what a caller sees.

use alloc::vec::Vec;
use core::fmt;

use crate::coder::{Coder, Emit, Learn, Meter, Read, Way};
use crate::framing::{Framing, Kind, plain_byte, plain_number};
use crate::model::Core;
use crate::preset::Preset;

/// Names this very model: every table, constant and decision. Whatever changes what a batch's bytes
/// mean raises it.
pub const VERSION: u8 = 4;

/// Probability of a batch that is merely stored.
const STORED: i32 = 256;

/// The bytes of a record, and what both ends know of it besides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its content.
    pub bytes: &'a [u8],
    /// Its time stamp in milliseconds since 1970, where the receiver knows it before the content.
    pub hlc_ms: Option<u64>,
}

impl<'a> From<&'a [u8]> for Record<'a> {
    fn from(bytes: &'a [u8]) -> Self {
        Self { bytes, hlc_ms: None }
    }
}

/// Records that were decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Their contents, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let begins = core::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, &end)| self.bytes.get(begin..end).unwrap_or_default())
    }

    fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }
}

/// Why a batch could not be decoded. The model is of no use afterwards: reset or replace it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Its records are longer than the limit allows.
    TooLong,
    /// It ends before its records do.
    Truncated,
    /// Bytes are left over after its last record.
    Trailing,
    /// The stamp or the kind of an event is none.
    Stamp,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => "the batch's records are longer than was promised",
            Self::Truncated => "the batch ends before its records do",
            Self::Trailing => "bytes are left over after the batch's last record",
            Self::Stamp => "an event's stamp or kind is out of its range",
        })
    }
}

impl core::error::Error for DecodeError {}

/// What a record would cost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of each byte, in 1/1024 bit.
    pub bytes: Vec<u32>,
    /// Of each [`Way`], in the order of their declaration: bytes that went it, and 1/1024 bit.
    pub ways: [(u64, u64); 4],
}

/// All that is known of a stream so far. A value: clone it to go back.
///
/// ```
/// use ropeway_codec::{Model, Preset, Record};
///
/// let (mut here, mut there) = (Model::new(Preset::Small), Model::new(Preset::Small));
/// let mut batch = Vec::new();
/// for event in [r#"{"type":"vitals","pulse":92}"#, r#"{"type":"vitals","pulse":88}"#] {
///     batch.clear();
///     here.encode(&[Record::from(event.as_bytes())], &mut batch);
///     let records = there.decode(&batch, &[None], 1000)?;
///     assert_eq!(records.iter().next(), Some(event.as_bytes()));
/// }
/// assert!(batch.len() <= 5);
/// # Ok::<(), ropeway_codec::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    preset: Preset,
    core: Core,
    framing: Framing,
}

impl Model {
    /// That has seen nothing. All its memory is taken here.
    pub fn new(preset: Preset) -> Self {
        Self { preset, core: Core::new(preset), framing: Framing::new() }
    }

    /// One without some predictors: a mask of bits of [`crate::PREDICTORS`]. To measure with.
    #[cfg(feature = "ablation")]
    pub fn without(preset: Preset, off: u32) -> Self {
        let mut model = Self::new(preset);
        model.core.off = off;
        model
    }

    /// The size that was chosen.
    pub fn preset(&self) -> Preset {
        self.preset
    }

    /// Bytes of memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.core.bytes()
    }

    /// Forgets everything, as if made anew.
    pub fn reset(&mut self) {
        self.core.reset();
        self.framing = Framing::new();
    }

    /// Learns a record that both ends have: the state becomes what encoding it would have made it.
    pub fn prime(&mut self, record: &Record<'_>) {
        self.pass(&mut Learn, record);
    }

    /// Appends a batch to `out`: at most 2 bytes, 1 bit per record and the records' lengths (two
    /// bits per binary digit) longer than the records are.
    ///
    /// The receiver must have the same state, and must know the number of records and their stamps.
    /// Records of 2 GiB and more are cut.
    pub fn encode(&mut self, records: &[Record<'_>], out: &mut Vec<u8>) {
        let begin = out.len();
        let mut emit = Emit::new(out);
        emit.code(false, STORED);
        for record in records {
            self.pass(&mut emit, record);
        }
        emit.finish();
        let plain_bits: u64 = records.iter().map(|r| plain_bits(length(r.bytes))).sum();
        if (out.len() - begin) as u64 * 8 > plain_bits + 16 {
            out.truncate(begin);
            let mut emit = Emit::new(out);
            emit.code(true, STORED);
            for record in records {
                plain_number(&mut emit, length(record.bytes));
                for &byte in record.bytes.iter().take(LEN_MAX as usize) {
                    plain_byte(&mut emit, byte);
                }
            }
            emit.finish();
        }
    }

    /// Decodes a batch of as many records as there are stamps, of `limit` bytes together at most.
    ///
    /// Of garbage comes an error, or garbage within the limit; time and memory are in proportion to
    /// the limit. Whether the records are the right ones only a checksum can say.
    ///
    /// # Errors
    /// [`DecodeError`], after which the state is of no use.
    pub fn decode(&mut self, batch: &[u8], hlcs_ms: &[Option<u64>], limit: usize) -> Result<Records, DecodeError> {
        let mut read = Read::new(batch);
        let mut records = Records::default();
        if read.code(false, STORED) {
            for _ in hlcs_ms {
                let len = plain_number(&mut read, 0) as usize;
                self.stored(&mut read, len, limit, &mut records)?;
            }
            for (bytes, &hlc_ms) in records.iter().zip(hlcs_ms) {
                self.prime(&Record { bytes, hlc_ms });
            }
        } else {
            for &hlc_ms in hlcs_ms {
                self.record(&mut read, hlc_ms, limit, &mut records)?;
            }
        }
        match read.left_over() {
            _ if read.is_overrun() => Err(DecodeError::Truncated),
            0 => Ok(records),
            _ => Err(DecodeError::Trailing),
        }
    }

    /// Learns a record, and says what each of its bytes would have cost.
    pub fn explain(&mut self, record: &Record<'_>) -> Cost {
        let mut meter = Meter::default();
        self.core.begin_record(record.hlc_ms);
        let mut cost = Cost::default();
        for &byte in record.bytes {
            let before = meter.cost;
            self.core.code(&mut meter, byte);
            cost.bytes.push((meter.cost - before) as u32);
        }
        self.core.end_record();
        cost.ways = meter.ways;
        cost
    }

    /// Codes a record whose bytes are known.
    pub(crate) fn pass<C: Coder>(&mut self, coder: &mut C, record: &Record<'_>) {
        let bytes = record.bytes.get(..LEN_MAX as usize).unwrap_or(record.bytes);
        let kind = self.framing.kind(coder, Kind::after(self.framing.last_len(), bytes));
        if kind != Kind::Container {
            self.framing.len(coder, length(bytes));
        }
        if kind == Kind::Stored {
            bytes.iter().for_each(|&byte| {
                plain_byte(coder, byte);
            });
            return;
        }
        if kind == Kind::Columns {
            bytes.iter().zip(0..).for_each(|(&byte, at)| {
                self.core.code_column(coder, byte, at);
            });
            return;
        }
        self.core.begin_record(record.hlc_ms);
        for &byte in bytes {
            self.core.code(coder, byte);
        }
        self.core.end_record();
    }

    /// Reads a record.
    pub(crate) fn record(
        &mut self,
        read: &mut Read<'_>,
        hlc_ms: Option<u64>,
        limit: usize,
        out: &mut Records,
    ) -> Result<(), DecodeError> {
        let kind = self.framing.kind(read, Kind::Container);
        let len = if kind == Kind::Container { usize::MAX } else { self.framing.len(read, 0) as usize };
        if kind == Kind::Stored {
            return self.stored(read, len, limit, out);
        }
        if kind != Kind::Container && len > limit.saturating_sub(out.bytes.len()) {
            return Err(DecodeError::TooLong);
        }
        if kind == Kind::Columns {
            for at in 0..len as u32 {
                if read.is_overrun() {
                    return Err(DecodeError::Truncated);
                }
                out.bytes.push(self.core.code_column(read, 0, at));
            }
            out.end();
            return Ok(());
        }
        let end = out.bytes.len().saturating_add(len);
        self.core.begin_record(hlc_ms);
        while out.bytes.len() < end && !(kind == Kind::Container && self.core.is_complete()) {
            if out.bytes.len() >= limit {
                return Err(DecodeError::TooLong);
            }
            if read.is_overrun() {
                return Err(DecodeError::Truncated);
            }
            out.bytes.push(self.core.code(read, 0));
        }
        self.core.end_record();
        out.end();
        Ok(())
    }

    /// Reads bytes that no model has coded.
    fn stored(&mut self, read: &mut Read<'_>, len: usize, limit: usize, out: &mut Records) -> Result<(), DecodeError> {
        if len > limit.saturating_sub(out.bytes.len()) {
            return Err(DecodeError::TooLong);
        }
        for _ in 0..len {
            if read.is_overrun() {
                return Err(DecodeError::Truncated);
            }
            out.bytes.push(plain_byte(read, 0));
        }
        out.end();
        Ok(())
    }
}

/// A longer record's length could not be coded.
const LEN_MAX: u32 = i32::MAX as u32 - 1;

/// Bits of a record that is merely stored, and of its length.
fn plain_bits(len: u32) -> u64 {
    8 * u64::from(len) + 2 * u64::from((len + 1).ilog2()) + 1
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(LEN_MAX).min(LEN_MAX)
}

impl Way {
    /// All of them, in the order of [`Cost::ways`].
    pub const ALL: [Self; 4] = [Self::Certain, Self::Asked, Self::Bitwise, Self::Random];
}
