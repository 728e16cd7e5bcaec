//! Frames and what is in them, without a session.

use alloc::vec;

use crate::codec::{CodecId, Codecs};
use crate::event::{Chain, RECORD_HEAD_BYTES, Records, put_record};
use crate::id::NodeName;
use crate::varint::{Reader, Writer};
use crate::wire::batch::{self, BatchHead, Columns};
use crate::wire::control::{ErrorBody, Hello, emit_number, parse_acks, parse_number};
use crate::wire::frame::{
    CONTROL_BODY_MAX_BYTES, FLAG, FRAME_HEAD_MAX_BYTES, FrameHead, FrameType, OPTIONAL, emit as emit_frame,
};
use crate::wire::vector::{ENTRY_MAX_BYTES, Entry};

const BATCH_MAX: usize = 64 << 10;
const EVENT_MAX: usize = 4096;

/// The bytes as a row of frames. Whatever can be read must be the same after it is written again.
pub fn frame(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(head)) = FrameHead::parse(rest, BATCH_MAX) {
        let max = if head.kind == Some(FrameType::Batch) { BATCH_MAX } else { CONTROL_BODY_MAX_BYTES };
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
            check_body(kind, body);
        }
        rest = tail;
    }
}

fn check_body(kind: FrameType, body: &[u8]) {
    let mut out = [0; 128];
    match kind {
        FrameType::Hello => {
            if let Ok(hello) = Hello::parse(body) {
                let n = hello.emit(&mut out).expect("room");
                assert_eq!(Hello::parse(&out[..n]), Ok(hello));
            }
        }
        FrameType::Error => {
            if let Ok(error) = ErrorBody::parse(body) {
                let n = error.emit(&mut out).expect("room");
                assert_eq!(ErrorBody::parse(&out[..n]), Ok(error));
            }
        }
        FrameType::Credit | FrameType::Blocked | FrameType::Ping | FrameType::Pong => {
            if let Ok(v) = parse_number(body) {
                let n = emit_number(&mut out, v).expect("room");
                assert_eq!(&out[..n], body, "a number has one form");
            }
        }
        FrameType::Ack => check_acks(body),
        FrameType::Vector => check_vector(body),
        FrameType::Batch => check_batch(body),
        FrameType::Receipt | FrameType::Head | FrameType::Goodbye => {}
    }
}

fn check_acks(body: &[u8]) {
    let mut out = vec![0; body.len()];
    let mut w = Writer::new(&mut out);
    let (mut pairs, mut whole) = (0, true);
    for pair in parse_acks(body) {
        assert!(whole, "nothing follows a bad pair");
        match pair {
            Ok((handle, seq)) => {
                w.varint(u64::from(handle)).expect("room");
                w.varint(seq).expect("room");
            }
            Err(_) => whole = false,
        }
        pairs += 1;
        assert!(pairs <= body.len() / 2 + 1);
    }
    let n = w.len();
    assert!(body.starts_with(&out[..n]) && (!whole || n == body.len()));
}

fn check_vector(body: &[u8]) {
    let (me, peer) = (NodeName::new("hub").expect("a name"), NodeName::new("clinic_a").expect("a name"));
    let mut r = Reader::new(body);
    while let Ok(entry) = Entry::parse(&mut r, &peer, &me) {
        let mut out = [0; ENTRY_MAX_BYTES];
        let mut w = Writer::new(&mut out);
        entry.emit(&mut w, &peer, &me).expect("room");
        let n = w.len();
        assert_eq!(Entry::parse(&mut Reader::new(&out[..n]), &peer, &me), Ok(entry));
    }
}

fn check_batch(body: &[u8]) {
    let mut r = Reader::new(body);
    let Ok(head) = BatchHead::parse(&mut r, BATCH_MAX) else { return };
    let mut again = [0; 64];
    let mut w = Writer::new(&mut again);
    head.emit(&mut w).expect("room");
    let n = w.len();
    assert_eq!(&again[..n], &body[..n], "a head has one form");
    assert_eq!(body.len() - n, r.rest().len());
    assert!(head.raw_bytes <= BATCH_MAX && head.last_seq() >= head.first_seq);
    if head.codec != CodecId::STORED {
        return;
    }
    let raw = r.rest();
    let Ok(columns) = Columns::parse(raw, &head, EVENT_MAX) else { return };
    let (mut count, mut last) = (0, None);
    let mut records = vec![0; raw.len() + head.count as usize * RECORD_HEAD_BYTES];
    let mut w = Writer::new(&mut records);
    for event in columns.iter() {
        assert!(last.is_none_or(|l| l < event.hlc), "stamps grow");
        assert!(event.payload.len() <= EVENT_MAX);
        put_record(&mut w, &event).expect("room");
        (count, last) = (count + 1, Some(event.hlc));
    }
    assert_eq!(count, head.count, "iteration cannot fail after parsing");
    let n = w.len();
    let records = Records { first_seq: head.first_seq, prev_chain: Chain([0; 32]), bytes: &records[..n] };
    let (mut scratch, mut out) = (vec![0; raw.len()], vec![0; raw.len() + 64]);
    let made = batch::emit(head.handle, &records, raw.len(), &mut Codecs::default(), u32::MAX, &mut scratch, &mut out)
        .expect("room");
    assert_eq!((made.count, made.raw_bytes), (head.count, raw.len()));
    assert_eq!(&out[made.body_bytes - raw.len()..made.body_bytes], raw, "columns have one form");
}
