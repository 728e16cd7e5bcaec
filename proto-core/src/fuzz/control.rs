//! Bodies of the control frames: as they come, and made from drawn values.

use alloc::vec;
use alloc::vec::Vec;

use super::Tape;
use crate::code::Code;
use crate::codec::CodecId;
use crate::id::{Incarnation, Lane, NAME_MAX_BYTES, NodeName, StreamKey};
use crate::varint::{Reader, Writer};
use crate::wire::control::{ErrorBody, Hello, emit_number, parse_acks, parse_number};
use crate::wire::digest::Digest;
use crate::wire::floor::Floor;
use crate::wire::frame::{CONTROL_BODY_MAX_BYTES, FrameType};
use crate::wire::part::{Have, PART_HEAD_MAX_BYTES, Part};
use crate::wire::vector::{ENTRY_MAX_BYTES, Entry};
use crate::wire::withheld::{LACKS_MAX_BYTES, Lacks, WithheldFrame};

const KINDS: [FrameType; 11] = [
    FrameType::Hello,
    FrameType::Vector,
    FrameType::Ack,
    FrameType::Credit,
    FrameType::Error,
    FrameType::Floor,
    FrameType::Part,
    FrameType::Have,
    FrameType::Digest,
    FrameType::Withheld,
    FrameType::Lacks,
];
/// Bit of the first byte: the rest are not a body but values to make one from.
const MADE: u8 = 0x80;

/// The first byte chooses the type of frame, and whether the rest is its body or values for it.
pub fn control(data: &[u8]) {
    let mut tape = Tape(data);
    let choice = tape.byte();
    let kind = KINDS[usize::from(choice & !MADE) % KINDS.len()];
    if choice & MADE == 0 { check(kind, tape.0) } else { make(kind, &mut tape) }
}

/// Any bytes as a body. What can be read must be the same after it is written again.
pub(super) fn check(kind: FrameType, body: &[u8]) {
    let mut out = [0; 64];
    match kind {
        FrameType::Hello => match Hello::parse(body) {
            Ok(hello) => {
                let n = hello.emit(&mut out).expect("room");
                assert_eq!(body[2..].get(..n - 2), Some(&out[2..n]), "a HELLO has one form");
            }
            Err(code) => assert!(matches!(code, Code::Malformed | Code::Version)),
        },
        FrameType::Error => match ErrorBody::parse(body) {
            Ok(error) => {
                let n = error.emit(&mut out).expect("room");
                assert_eq!(body.get(..n), Some(&out[..n]), "an ERROR has one form");
            }
            Err(code) => assert_eq!(code, Code::Malformed),
        },
        FrameType::Credit | FrameType::Blocked | FrameType::Ping | FrameType::Pong | FrameType::NoHistory => {
            if let Ok(v) = parse_number(body) {
                let n = emit_number(&mut out, v).expect("room");
                assert_eq!(&out[..n], body, "a number has one form");
            }
        }
        FrameType::Ack => check_acks(body),
        FrameType::Vector => check_vector(body),
        FrameType::Withheld => {
            if let Ok(withheld) = WithheldFrame::parse(body) {
                let mut out = [0; 96];
                let n = withheld.emit(&mut out).expect("room");
                assert_eq!(&out[..n], body, "a WITHHELD has one form");
            }
        }
        FrameType::Lacks => {
            let (sender, receiver) = ends();
            if let Ok(lacks) = Lacks::parse(body, &sender, &receiver) {
                let mut out = [0; LACKS_MAX_BYTES];
                let n = lacks.emit(&mut out, &sender, &receiver).expect("room");
                let again = Lacks::parse(&out[..n], &sender, &receiver);
                assert_eq!(again, Ok(lacks), "a LACKS reads back");
            }
        }
        FrameType::Floor => {
            if let Ok(floor) = Floor::parse(body) {
                let n = floor.emit(&mut out).expect("room");
                assert_eq!(&out[..n], body, "a FLOOR has one form");
            }
        }
        FrameType::Part => {
            if let Ok((part, bytes)) = Part::parse(body, 1 << 20) {
                let mut w = Writer::new(&mut out);
                part.emit(&mut w).expect("room");
                let n = w.len();
                assert_eq!(body, [&out[..n], bytes].concat(), "a PART has one form");
                assert!(n <= PART_HEAD_MAX_BYTES && part.offset + bytes.len() <= part.total);
            }
        }
        FrameType::Have => {
            let (sender, receiver) = ends();
            if let Ok(have) = Have::parse(body, &sender, &receiver) {
                let mut out = [0; 128];
                let n = have.emit(&mut out, &sender, &receiver).expect("room");
                assert_eq!(Have::parse(&out[..n], &sender, &receiver), Ok(have));
            }
        }
        FrameType::Digest => {
            if let Ok(digest) = Digest::parse(body) {
                let n = digest.emit(&mut out).expect("room");
                assert_eq!(&out[..n], body, "a DIGEST has one form");
            }
        }
        FrameType::Buckets | FrameType::Batch | FrameType::Receipt | FrameType::Head | FrameType::Goodbye => {}
    }
}

fn check_acks(body: &[u8]) {
    let (pairs, end) = acks(body);
    let again = ack_body(&pairs);
    assert!(body.starts_with(&again), "a pair has one form");
    assert_eq!(end.is_ok(), again.len() == body.len());
}

/// The entries of any bytes. An entry has one form but for the ends' names, which may be spelt out.
fn check_vector(body: &[u8]) {
    let (sender, receiver) = ends();
    let mut r = Reader::new(body);
    loop {
        let before = r.rest();
        let Ok(entry) = Entry::parse(&mut r, &sender, &receiver) else { return };
        let read = &before[..before.len() - r.rest().len()];
        let again = vector_body(&[entry]);
        let spelt_out = read[0] & 3 == 0 && (entry.key.node == sender || entry.key.node == receiver);
        assert!(spelt_out || again == read, "an entry has one form");
        assert_eq!(entries(&again), (vec![entry], Ok(())));
    }
}

/// A body from drawn values: it is read as what was written, and in no other form.
fn make(kind: FrameType, tape: &mut Tape<'_>) {
    let mut out = [0; 64];
    match kind {
        FrameType::Hello => {
            let hello = Hello {
                features: tape.number() as u32,
                // A tag behind the fields has no longer form: a unit test has it.
                codecs: tape.number() as u32 & !CodecId::SAMPLED.bit(),
                frame_kib: tape.number() as u32,
                batch_kib: tape.number() as u32,
                credit_kib: tape.number() as u32,
                deployment: tape.number() as u16,
                history_kib: tape.number() as u32,
                wall_s: tape.number(),
                sample: 0,
            };
            let n = hello.emit(&mut out).expect("room");
            check_fields(Hello::parse, hello, &out[..n], 2, tape);
        }
        FrameType::Error => {
            let error = ErrorBody { code: tape.number() as u16, retry_after_s: tape.number() as u16 };
            let n = error.emit(&mut out).expect("room");
            check_fields(ErrorBody::parse, error, &out[..n], 0, tape);
        }
        FrameType::Floor
        | FrameType::Part
        | FrameType::Have
        | FrameType::Digest
        | FrameType::Withheld
        | FrameType::Lacks => check(kind, tape.take(64)),
        FrameType::Ack => make_acks(tape),
        FrameType::Vector => make_vector(tape),
        _ => {
            let v = tape.number();
            let n = emit_number(&mut out, v).expect("room");
            let body = &out[..n];
            assert_eq!(parse_number(body), Ok(v));
            assert_eq!(parse_number(&body[..n - 1]), Err(Code::Malformed), "a cut number");
            assert_eq!(parse_number(&[body, &[tape.byte()]].concat()), Err(Code::Malformed), "bytes behind it");
            assert_eq!(parse_number(&lengthened(body, 0, tape)), Err(Code::Malformed));
        }
    }
}

/// A body of postcard's, whose varints begin at `fields_at`.
fn check_fields<T: PartialEq + core::fmt::Debug>(
    parse: impl Fn(&[u8]) -> Result<T, Code>,
    value: T,
    body: &[u8],
    fields_at: usize,
    tape: &mut Tape<'_>,
) {
    for cut in 0..body.len() {
        assert_eq!(parse(&body[..cut]), Err(Code::Malformed), "cut");
    }
    assert_eq!(parse(&lengthened(body, fields_at, tape)), Err(Code::Malformed), "a longer form");
    assert_eq!(parse(&[body, tape.take(16)].concat()), Ok(value), "a later version's fields are ignored");
}

fn make_acks(tape: &mut Tape<'_>) {
    let settings = tape.u16();
    let mut pairs = Vec::new();
    while !tape.is_over() && pairs.len() < CONTROL_BODY_MAX_BYTES / 15 {
        pairs.push((tape.number() as u32, tape.number()));
    }
    let body = ack_body(&pairs);
    assert_eq!(acks(&body), (pairs.clone(), Ok(())));
    if body.is_empty() {
        return;
    }
    let (before, _) = acks(&body[..usize::from(settings) % body.len()]);
    assert!(before.len() < pairs.len() && pairs.starts_with(&before), "a cut body has the pairs before the cut");
    let (before, end) = acks(&lengthened(&body, 0, &mut Tape(&settings.to_le_bytes())));
    assert!(pairs.starts_with(&before) && end.is_err(), "a longer form");
}

fn make_vector(tape: &mut Tape<'_>) {
    let settings = tape.u16();
    let mut made = Vec::new();
    while !tape.is_over() && made.len() < CONTROL_BODY_MAX_BYTES / ENTRY_MAX_BYTES {
        made.push(drawn_entry(tape));
    }
    let body = vector_body(&made);
    assert_eq!(entries(&body), (made.clone(), Ok(())));
    if !body.is_empty() {
        let (before, _) = entries(&body[..usize::from(settings) % body.len()]);
        assert!(before.len() < made.len() && made.starts_with(&before), "a cut body has the entries before the cut");
    }
}

fn drawn_entry(tape: &mut Tape<'_>) -> Entry {
    let choice = tape.byte();
    let (sender, receiver) = ends();
    let node = match choice & 3 {
        0 => sender,
        1 => receiver,
        _ => {
            let n = usize::from(tape.byte()) % NAME_MAX_BYTES + 1;
            NodeName::from_bytes(tape.take(n)).unwrap_or(NodeName::new("clinic_b").expect("a name"))
        }
    };
    let lane = Lane::ALL[usize::from(choice >> 2) % Lane::ALL.len()];
    let incarnation = Incarnation::new(tape.number().max(1));
    let seq = tape.number().min(u64::MAX - 1);
    let tag = if seq > 0 { tape.number().to_le_bytes() } else { [0; 8] };
    Entry { key: StreamKey { node, incarnation, lane }, seq, tag }
}

/// `body` with one of its varints a byte longer than it need be.
fn lengthened(body: &[u8], fields_at: usize, tape: &mut Tape<'_>) -> Vec<u8> {
    let ends: Vec<usize> = (fields_at..body.len()).filter(|i| body[*i] & 0x80 == 0).collect();
    let end = ends[usize::from(tape.u16()) % ends.len()];
    let mut longer = body.to_vec();
    longer[end] |= 0x80;
    longer.insert(end + 1, 0);
    longer
}

/// The pairs before the first bad one, and whether there was one.
fn acks(body: &[u8]) -> (Vec<(u32, u64)>, Result<(), Code>) {
    let (mut pairs, mut end) = (Vec::new(), Ok(()));
    for pair in parse_acks(body) {
        assert_eq!(end, Ok(()), "nothing follows a bad pair");
        match pair {
            Ok(pair) => pairs.push(pair),
            Err(code) => end = Err(code),
        }
        assert!(pairs.len() <= body.len() / 2);
    }
    (pairs, end)
}

fn ack_body(pairs: &[(u32, u64)]) -> Vec<u8> {
    let mut out = vec![0; pairs.len() * 15];
    let mut w = Writer::new(&mut out);
    for (handle, seq) in pairs {
        w.varint(u64::from(*handle)).expect("room");
        w.varint(*seq).expect("room");
    }
    let n = w.len();
    out.truncate(n);
    out
}

/// The entries before the first bad one, and whether there was one.
fn entries(body: &[u8]) -> (Vec<Entry>, Result<(), Code>) {
    let (sender, receiver) = ends();
    let mut r = Reader::new(body);
    let mut list = Vec::new();
    while !r.is_empty() {
        match Entry::parse(&mut r, &sender, &receiver) {
            Ok(entry) => list.push(entry),
            Err(code) => return (list, Err(code)),
        }
    }
    (list, Ok(()))
}

fn vector_body(list: &[Entry]) -> Vec<u8> {
    let (sender, receiver) = ends();
    let mut out = vec![0; list.len() * ENTRY_MAX_BYTES];
    let mut w = Writer::new(&mut out);
    for entry in list {
        entry.emit(&mut w, &sender, &receiver).expect("room");
    }
    let n = w.len();
    out.truncate(n);
    out
}

/// Sender and receiver of the vectors here.
fn ends() -> (NodeName, NodeName) {
    (NodeName::new("clinic_a").expect("a name"), NodeName::new("hub").expect("a name"))
}
