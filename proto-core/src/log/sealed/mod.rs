//! Dense files: sealed segments, stubs and checkpoints (docs/LOG.md#sealed-1). Written once from front to
//! back, never changed. No input or output here, and no memory but the caller's.
//!
//! Writing: [`SealedHeader::new`], then a [`SealedWriter`]: [`pack`] a body into the buffer behind the
//! frame's head, [`SealedWriter::frame`], write what it says, and [`SealedWriter::finish`] at the end.
//! Reading: a [`SealedScan`] for everything, or, for one event, [`Trailer::parse`],
//! [`SealedCipher::open`] for the footer, [`Summary::parse`], and [`find`] in one index frame.

mod frame;
mod header;
mod index;
mod pack;
mod quick;
mod scan;
mod state;
mod writer;

pub(super) use frame::dense_type_of;
pub use frame::{DenseFrame, DenseType, SealedCipher, Trailer, dense_len, dense_len_of};
pub use header::{Kind, SealedHeader, SealedStart, seal_digest};
pub use index::{IndexBuilder, IndexRecord, Piece, Pieces, Range, Summary, find, index_records};
pub(in crate::log) use index::{parse_key, put_key};
pub use pack::{PACK_HEAD_BYTES, pack, unpack, unpacked_len};
pub use quick::{SealedCrcScan, SealedSight};
pub use scan::{SealedScan, SealedStep};
pub use state::{At, LogState, STATE_RECORD_MAX_BYTES, SegmentState, StateRecord, StreamState, Stub, state_records};
pub use writer::SealedWriter;

/// Size of the header of a sealed file.
pub const SEALED_HEADER_BYTES: usize = 192;
/// Frames begin at multiples of this.
pub const DENSE_ALIGN: usize = 16;
/// What ends a sealed file: a copy of its header, and where the footer stands.
pub const TRAILER_BYTES: usize = SEALED_HEADER_BYTES + 16;
/// A frame is closed when it holds so much before compression.
pub const SEALED_FRAME_BYTES: usize = 48 << 10;
/// Largest sealed file.
pub const SEALED_MAX_BYTES: u64 = 1 << 30;
