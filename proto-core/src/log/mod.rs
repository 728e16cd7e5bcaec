//! The log on disk: codec, scanner and recovery decision (docs/LOG.md). No input or output here.
//!
//! A *segment* file holds *epochs*; an epoch is a header page and the frames written under its
//! key; a *frame* is one commit group; a group holds *records*.
//!
//! Writing: [`Header::new`] and [`Header::emit`], then [`Cipher::new`]; collect records with a
//! [`GroupBuilder`], seal with [`Cipher::seal`], write at `page * PAGE_BYTES`, sync. Reading:
//! [`SegmentScan`] after a crash, [`Cipher::open`] for one frame, [`records`] for its body.

mod frame;
mod group;
mod header;
mod key;
mod name;
mod quick;
mod record;
mod repair;
mod run;
mod scan;
pub mod sealed;
mod search;
mod verdict;

pub use frame::{Cipher, FrameFault, FrameType, Opened, frame_pages, padded_len};
pub(crate) use group::RUN_HEAD_MAX_BYTES;
pub use group::{GroupBuilder, event_bytes_max};
pub use header::{EpochStart, Header, link_digest};
pub use key::DataKey;
pub use name::{SealedName, SegmentName};
pub use quick::{CrcScan, Sight};
pub use record::{Expired, Lack, Parent, Receipt, Record, RecordIter, StreamDecl, records};
pub use repair::{LOST_MAX, LostRange, REPAIR_MAX_BYTES, Repair, RepairHead};
pub(crate) use run::event_bytes_after;
pub use run::{Run, RunEvents};
pub use scan::{End, SegmentScan, Step, Want};
pub use verdict::{Evidence, Place, Row, TABLE, Tail, Verdict, decide};

/// Everything on disk starts at a multiple of this (docs/LOG.md#segment-1).
pub const PAGE_BYTES: usize = 4096;
/// Size of a segment file unless configured otherwise.
pub const SEGMENT_DEFAULT_BYTES: u64 = 8 << 20;
/// Largest segment file.
pub const SEGMENT_MAX_BYTES: u64 = 64 << 20;
/// Size of an epoch header; the rest of its page is zero.
pub const HEADER_BYTES: usize = 128;
/// Bytes before the body of a frame: word and CRC.
pub const FRAME_HEAD_BYTES: usize = 8;
/// Bytes after the body of a frame: the authentication tag.
pub const FRAME_TAG_BYTES: usize = 16;
/// Largest body of a frame that the format allows.
pub const MAX_BODY_BYTES: usize = 1 << 20;
