//! The frame: one byte of type and flags, a varint length, the body (docs/PROTOCOL.md#frame-1).

use crate::code::Code;
use crate::planted::{Bug, has, mark};
use crate::varint::{Reader, varint_len};

/// Longest frame header: the type byte and a length below 2^28.
pub const FRAME_HEAD_MAX_BYTES: usize = 5;

/// Largest body of any frame that is neither a BATCH nor a PART.
pub const CONTROL_BODY_MAX_BYTES: usize = 4096;

/// Bit of the first byte: a receiver that does not know the type skips the frame. On a BATCH: it was sent before
/// its sender knew what the receiver holds (docs/PROTOCOL.md#early-1). On a GOODBYE: before it knew that it holds all.
pub const OPTIONAL: u8 = 0x20;
/// Bit of the first byte whose meaning the type gives: last VECTOR of the opening, or of the rest; flush for BATCH and PART.
pub const FLAG: u8 = 0x40;
const TYPE_MASK: u8 = 0x1f;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum FrameType {
    /// Versions, limits, credit. The first frame of each side.
    Hello = 1,
    /// Streams and how far they are held. With [`FLAG`] the opening vector is complete.
    Vector = 2,
    /// Events of one stream. With [`FLAG`] the sender has nothing more to send for now.
    Batch = 3,
    /// Streams and how far they are held durably.
    Ack = 4,
    /// More bytes may be sent.
    Credit = 5,
    /// The next batch needs more credit than there is.
    Blocked = 6,
    /// Are you there?
    Ping = 7,
    /// Yes.
    Pong = 8,
    /// Reserved: a signed acknowledgement.
    Receipt = 9,
    /// Reserved: a signed head of a stream.
    Head = 10,
    /// Why the sender closes.
    Error = 11,
    /// Everything is done; answered by another GOODBYE.
    Goodbye = 12,
    /// The first events of a stream are gone on purpose. Sent with [`OPTIONAL`].
    Floor = 13,
    /// The history of a batch is not here; the stream is to come again without.
    NoHistory = 14,
    /// A piece of a batch. With [`FLAG`] the sender has nothing more to send for now.
    Part = 15,
    /// How far the pieces of a batch have come. Sent with [`OPTIONAL`].
    Have = 16,
    /// How far all streams of third nodes are held, in one sum.
    Digest = 17,
    /// The same in several sums, where the one differs.
    Buckets = 18,
    /// An event does not come, and what stands in its place. Sent with [`OPTIONAL`]. With [`FLAG`] the sender has
    /// nothing more to send for now.
    Withheld = 19,
    /// Events that the sender of this does not hold although it acknowledges what follows them. Sent with [`OPTIONAL`].
    Lacks = 20,
}

/// A frame's first bytes, understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHead {
    /// `None`: unknown but optional, to be skipped.
    pub kind: Option<FrameType>,
    /// Whether [`FLAG`] is set.
    pub flag: bool,
    /// A BATCH with [`OPTIONAL`]: of a first flight (docs/PROTOCOL.md#early-1); or such a GOODBYE: what was sent before it is not
    /// acknowledged yet (docs/PROTOCOL.md#goodbye-4).
    pub early: bool,
    /// Bytes of this header.
    pub head_bytes: usize,
    /// Bytes of the body that follows.
    pub body_bytes: usize,
}

impl FrameHead {
    /// Reads a header from the start of `bytes`. `Ok(None)`: not enough bytes yet.
    ///
    /// The length is checked here, before anyone makes room for it: a BATCH or a PART may have
    /// `batch_max_bytes`, every other frame [`CONTROL_BODY_MAX_BYTES`].
    ///
    /// # Errors
    /// [`Code::Malformed`], [`Code::FrameTooLarge`], or [`Code::Version`] for an unknown type that
    /// is not optional (docs/PROTOCOL.md#frame-4).
    pub fn parse(bytes: &[u8], batch_max_bytes: usize) -> Result<Option<FrameHead>, Code> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        if first & 0x80 != 0 {
            return Err(Code::Malformed);
        }
        let kind = match first & TYPE_MASK {
            1 => Some(FrameType::Hello),
            2 => Some(FrameType::Vector),
            3 => Some(FrameType::Batch),
            4 => Some(FrameType::Ack),
            5 => Some(FrameType::Credit),
            6 => Some(FrameType::Blocked),
            7 => Some(FrameType::Ping),
            8 => Some(FrameType::Pong),
            9 => Some(FrameType::Receipt),
            10 => Some(FrameType::Head),
            11 => Some(FrameType::Error),
            12 => Some(FrameType::Goodbye),
            13 => Some(FrameType::Floor),
            14 => Some(FrameType::NoHistory),
            15 => Some(FrameType::Part),
            16 => Some(FrameType::Have),
            17 => Some(FrameType::Digest),
            18 => Some(FrameType::Buckets),
            19 => Some(FrameType::Withheld),
            20 => Some(FrameType::Lacks),
            _ if first & OPTIONAL != 0 => None,
            _ => return Err(Code::Version),
        };
        // Reserved types are skipped where they are optional and refused where they are not.
        let kind = match kind {
            Some(FrameType::Receipt | FrameType::Head) if first & OPTIONAL != 0 => None,
            Some(FrameType::Receipt | FrameType::Head) => return Err(Code::Version),
            other => other,
        };
        let head = &rest[..rest.len().min(FRAME_HEAD_MAX_BYTES - 1)];
        let mut r = Reader::new(head);
        let len = match r.varint() {
            Ok(len) => len,
            Err(_) if head.len() < FRAME_HEAD_MAX_BYTES - 1 && head.iter().all(|b| b & 0x80 != 0) => return Ok(None),
            Err(e) => return Err(e),
        };
        let early = matches!(kind, Some(FrameType::Batch | FrameType::Goodbye)) && first & OPTIONAL != 0;
        let events = matches!(kind, Some(FrameType::Batch | FrameType::Part));
        let max = if events { batch_max_bytes } else { CONTROL_BODY_MAX_BYTES };
        if len > max as u64 && !has(Bug::FrameBoundUnchecked) {
            mark!("hostile.frame_too_large");
            return Err(Code::FrameTooLarge);
        }
        let head_bytes = 1 + varint_len(len);
        Ok(Some(FrameHead { kind, flag: first & FLAG != 0, early, head_bytes, body_bytes: len as usize }))
    }
}

/// Emits a whole frame: `fill` writes the body into the room left and says how long it is.
/// `None`, with nothing that counts written, if there is no room.
pub(crate) fn emit(
    out: &mut [u8],
    kind: FrameType,
    flag: bool,
    fill: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Option<usize> {
    // The body is written behind the longest header, then moved to where the real one ends.
    let body_at = FRAME_HEAD_MAX_BYTES.min(out.len());
    let len = fill(&mut out[body_at..])?;
    if len >= 1 << 28 {
        return None;
    }
    let head_bytes = 1 + varint_len(len as u64);
    out.copy_within(body_at..body_at + len, head_bytes);
    out[0] = kind as u8 | if flag { FLAG } else { 0 };
    let mut w = crate::varint::Writer::new(&mut out[1..head_bytes]);
    w.varint(len as u64).ok()?;
    Some(head_bytes + len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_round_trips_at_every_length_of_its_header() {
        for len in [0usize, 1, 127, 128, 16_383, 16_384, 70_000] {
            let mut out = alloc::vec![0u8; len + FRAME_HEAD_MAX_BYTES];
            let n = emit(&mut out, FrameType::Batch, true, |b| {
                b[..len].fill(0x5a);
                Some(len)
            })
            .unwrap();
            let h = FrameHead::parse(&out[..n], 1 << 20).unwrap().unwrap();
            assert_eq!((h.kind, h.flag, h.body_bytes), (Some(FrameType::Batch), true, len));
            assert!(out[h.head_bytes..n].iter().all(|b| *b == 0x5a));
            for cut in 0..h.head_bytes {
                assert_eq!(FrameHead::parse(&out[..cut], 1 << 20), Ok(None));
            }
        }
    }

    #[test]
    fn lengths_over_the_limit_are_refused_from_the_header_alone() {
        assert_eq!(FrameHead::parse(&[3, 0xff, 0xff, 0x7f], 1000), Err(Code::FrameTooLarge));
        assert_eq!(FrameHead::parse(&[1, 0x81, 0x20], 1 << 20), Err(Code::FrameTooLarge));
        assert_eq!(FrameHead::parse(&[3, 0xff, 0xff, 0xff, 0xff, 0xff], 1000), Err(Code::Malformed));
    }

    #[test]
    fn an_unknown_type_is_skipped_only_when_it_is_marked_optional() {
        assert_eq!(FrameHead::parse(&[0x1e, 0], 10), Err(Code::Version));
        assert_eq!(FrameHead::parse(&[0x1e | OPTIONAL, 0], 10).unwrap().unwrap().kind, None);
        assert_eq!(FrameHead::parse(&[9, 0], 10), Err(Code::Version));
        assert_eq!(FrameHead::parse(&[9 | OPTIONAL, 0], 10).unwrap().unwrap().kind, None);
        assert_eq!(FrameHead::parse(&[0x81, 0], 10), Err(Code::Malformed));
    }
}
