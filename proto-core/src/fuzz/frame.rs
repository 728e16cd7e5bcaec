//! Frames and what is in them, without a session.

use alloc::vec;

use super::batch::{BATCH_MAX, batch};
use super::control;
use crate::codec::Codecs;
use crate::wire::frame::{
    CONTROL_BODY_MAX_BYTES, FLAG, FRAME_HEAD_MAX_BYTES, FrameHead, FrameType, OPTIONAL, emit as emit_frame,
};

/// The bytes as a row of frames. Whatever can be read must be the same after it is written again.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(head)) = FrameHead::parse(rest, BATCH_MAX) {
        let events = matches!(head.kind, Some(FrameType::Batch | FrameType::Part));
        let max = if events { BATCH_MAX } else { CONTROL_BODY_MAX_BYTES };
        assert!(head.head_bytes <= FRAME_HEAD_MAX_BYTES && head.body_bytes <= max);
        for cut in 0..head.head_bytes {
            assert_eq!(FrameHead::parse(&rest[..cut], BATCH_MAX), Ok(None), "a cut header asks for more");
        }
        let Some(body) = rest.get(head.head_bytes..head.head_bytes + head.body_bytes) else { return };
        let (whole, tail) = rest.split_at(head.head_bytes + head.body_bytes);
        if let Some(kind) = head.kind {
            let mut out = vec![0; body.len() + FRAME_HEAD_MAX_BYTES];
            let fill = |b: &mut [u8]| {
                b[..body.len()].copy_from_slice(body);
                Some(body.len())
            };
            let n = emit_frame(&mut out, kind, head.flag, fill).expect("room");
            out[0] |= whole[0] & OPTIONAL;
            assert_eq!(whole[0] & FLAG != 0, head.flag);
            assert_eq!(&out[..n], whole);
            match kind {
                FrameType::Batch => batch(body, &mut Codecs::default()),
                _ => control::check(kind, body),
            }
        }
        rest = tail;
    }
}
