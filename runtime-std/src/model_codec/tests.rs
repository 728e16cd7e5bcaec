use super::*;
use ropeway_core::codec::{CodecRef, Codecs};
use ropeway_core::varint::Writer;

const STATES: usize = 2;

/// A stream whose events are told by their numbers, and its columns and pasts.
fn payload(seq: u64) -> Vec<u8> {
    let weight = seq * 7919 % 90;
    format!("{{\"patient\":\"BT-{:05}\",\"event\":\"visit\",\"weight\":{weight}}}", seq * seq % 9973).into_bytes()
}

fn hlc(seq: u64) -> Hlc {
    Hlc::new(1_770_000_000_000 + seq / 3 * 61_000, (seq % 3) as u16)
}

fn event(seq: u64, payload: &[u8]) -> Event<'_> {
    Event { hlc: hlc(seq), kind: 4, flags: u8::from(seq.is_multiple_of(11)), payload }
}

fn columns(from: u64, before: u64) -> Vec<u8> {
    let payloads: Vec<_> = (from..before).map(payload).collect();
    let events: Vec<_> = (from..before).zip(&payloads).map(|(seq, p)| event(seq, p)).collect();
    let mut raw = vec![0; 200 * payloads.len()];
    let n = put_columns(events.into_iter(), &mut raw).unwrap();
    raw.truncate(n);
    raw
}

/// What a history holds of events: bytes, and stamps from the last to the first.
fn history(from: u64, before: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut stamps) = (Vec::new(), Vec::new());
    for seq in from..before {
        let payload = payload(seq);
        let mut head = [0; 20];
        let mut w = Writer::new(&mut head);
        w.varint(4).unwrap();
        w.varint(payload.len() as u64).unwrap();
        let n = w.len();
        bytes.extend_from_slice(&head[..n]);
        bytes.extend_from_slice(&payload);
        let stamp = [&hlc(seq).as_u64().to_le_bytes()[..], &[u8::from(seq.is_multiple_of(11))]].concat();
        stamps.splice(..0, stamp);
    }
    (bytes, stamps)
}

/// A batch of session 1 and stream 3 that begins at `first`, refers to all from `from` on, and ends before `end`.
fn past(from: u64, first: u64, end: u64) -> Past<'static> {
    let (batch_count, first_hlc) = (end - first, hlc(first));
    Past { session: 1, stream: 3, from_seq: from, before_seq: first, batch_count, first_hlc, ..Past::default() }
}

fn pack(codec: &mut ModelCodec, past: &Past<'_>) -> Option<Vec<u8>> {
    let raw = columns(past.before_seq, past.before_seq + past.batch_count);
    let mut out = vec![0; raw.len()];
    let n = codec.compress_after(past, &raw, &mut out)?;
    out.truncate(n);
    Some(out)
}

fn unpack(codec: &mut ModelCodec, past: &Past<'_>, data: &[u8]) -> Result<(), Code> {
    let raw = columns(past.before_seq, past.before_seq + past.batch_count);
    let mut out = vec![0; raw.len()];
    codec.decompress_after(past, data, &mut out)?;
    if out == raw { Ok(()) } else { Err(Code::Fork) }
}

#[test]
fn a_state_goes_on_from_batch_to_batch_and_is_what_it_would_have_learned() {
    let (mut here, mut there, mut late) = (ModelCodec::new(1), ModelCodec::new(1), ModelCodec::new(1));
    let mut first = 1;
    let mut sizes = Vec::new();
    for end in [2, 3, 60, 61, 300] {
        let past = past(1, first, end);
        assert_eq!((here.has_state(&past, true), there.has_state(&past, false)), (first > 1, first > 1));
        let data = pack(&mut here, &past).unwrap();
        assert_eq!(unpack(&mut there, &past, &data), Ok(()));
        there.confirm();
        sizes.push(data.len());
        // One that has nothing but the events comes to the same bytes.
        let (bytes, stamps) = history(1, first);
        let known = Past { bytes: &bytes, stamps: &stamps, ..past };
        assert_eq!(pack(&mut ModelCodec::new(1), &known).unwrap(), data);
        assert_eq!(unpack(&mut late, &known, &data), Ok(()));
        first = end;
    }
    assert!(sizes[3] < sizes[0] / 4, "{sizes:?}");
    assert_eq!((here.learned(), there.learned(), late.learned()), (0, 0, 0), "nothing was learned anew");
}

#[test]
fn a_state_that_is_behind_learns_what_it_lacks_and_no_more() {
    let mut codec = ModelCodec::new(STATES);
    pack(&mut codec, &past(1, 1, 100)).unwrap();
    let (bytes, stamps) = history(1, 120);
    let data = pack(&mut codec, &Past { bytes: &bytes, stamps: &stamps, ..past(1, 120, 130) }).unwrap();
    assert_eq!(codec.learned(), (100..120).map(|seq| payload(seq).len() as u64).sum::<u64>());
    assert_eq!(
        pack(&mut ModelCodec::new(1), &Past { bytes: &bytes, stamps: &stamps, ..past(1, 120, 130) }),
        Some(data)
    );
}

#[test]
fn what_is_not_known_and_cannot_be_learned_is_refused() {
    let mut codec = ModelCodec::new(STATES);
    let data = pack(&mut codec, &past(1, 1, 50)).unwrap();
    // Another begin, another end, another direction, another stream.
    let (bytes, stamps) = history(1, 40);
    for p in [past(2, 50, 60), past(1, 51, 60), Past { stream: 4, ..past(1, 50, 60) }] {
        assert!(!codec.has_state(&p, true));
        assert_eq!(pack(&mut codec, &p), None);
        assert_eq!(pack(&mut codec, &Past { bytes: &bytes, stamps: &stamps, ..p }), None);
    }
    assert!(!codec.has_state(&past(1, 50, 60), false));
    assert_eq!(unpack(&mut codec, &past(1, 50, 60), &data), Err(Code::BadBatch));
}

#[test]
fn a_state_is_lost_with_a_batch_that_went_another_way_or_was_nonsense() {
    let mut here = ModelCodec::new(1);
    let raw = columns(1, 50);
    assert_eq!(here.compress_after(&past(1, 1, 50), &raw, &mut [0; 20]), None);
    assert!(!here.has_state(&past(1, 50, 51), true) && !here.has_state(&past(1, 1, 50), true));
    let data = pack(&mut here, &past(1, 1, 50)).unwrap();
    let mut there = ModelCodec::new(1);
    // Where the last bytes are missing, others may come out, as many: the chain tells.
    for cut in [0, 1, data.len() / 2, data.len() - 8] {
        assert_eq!(unpack(&mut there, &past(1, 1, 50), &data[..cut]), Err(Code::BadBatch));
        assert!(!there.has_state(&past(1, 50, 51), false));
    }
    let mut longer = data.clone();
    longer.extend([1; 9]);
    assert_eq!(unpack(&mut there, &past(1, 1, 50), &longer), Err(Code::BadBatch));
    let mut out = vec![0; raw.len() + 1];
    assert_eq!(there.decompress_after(&past(1, 1, 50), &data, &mut out), Err(Code::BadBatch));
    // A head that promises more events than there are.
    assert!(there.decompress_after(&past(1, 1, 4_000), &data, &mut out).is_err());
    assert_eq!(unpack(&mut there, &past(1, 1, 50), &data), Ok(()));
}

#[test]
fn what_a_session_was_told_is_used_by_others_only_when_the_chain_has_shown_that_it_is_true() {
    let (mut here, mut there) = (ModelCodec::new(1), ModelCodec::new(1));
    let data = pack(&mut here, &past(1, 1, 50)).unwrap();
    unpack(&mut there, &past(1, 1, 50), &data).unwrap();
    let other = Past { session: 2, ..past(1, 50, 60) };
    assert!(there.has_state(&past(1, 50, 60), false) && !there.has_state(&other, false));
    there.confirm();
    assert!(there.has_state(&other, false));
    there.forget(3);
    assert!(!there.has_state(&other, false));
}

#[test]
fn a_peer_that_does_not_take_it_costs_no_state() {
    let mut codec = ModelCodec::new(STATES);
    pack(&mut codec, &past(1, 1, 30)).unwrap();
    let other = Past { session: 2, stream: 4, ..past(1, 1, 30) };
    let data = pack(&mut ModelCodec::new(1), &other).unwrap();
    unpack(&mut codec, &other, &data).unwrap();
    codec.refused(2);
    assert_eq!(codec.pool.len(), 2, "what is read with a state says nothing of what the peer reads");
    codec.refused(1);
    assert_eq!(codec.pool.len(), 1);
    codec.confirm();
    assert!(codec.has_state(&Past { session: 2, stream: 4, ..past(1, 30, 31) }, false));
}

#[test]
fn the_state_that_was_not_used_for_longest_makes_room() {
    let mut codec = ModelCodec::new(STATES);
    let of = |stream| Past { stream, ..past(1, 1, 30) };
    let has = |codec: &mut ModelCodec, stream| codec.has_state(&Past { stream, ..past(1, 30, 31) }, true);
    pack(&mut codec, &of(1)).unwrap();
    pack(&mut codec, &of(2)).unwrap();
    pack(&mut codec, &Past { stream: 1, ..past(1, 30, 40) }).unwrap();
    pack(&mut codec, &of(3)).unwrap();
    assert!(codec.has_state(&Past { stream: 1, ..past(1, 40, 41) }, true));
    assert_eq!((has(&mut codec, 2), has(&mut codec, 3)), (false, true));
    assert_eq!(codec.pool.len(), STATES);
}

#[test]
fn it_is_chosen_for_slow_links_and_those_that_are_not_known_and_offered_while_there_is_time() {
    let mut codecs = crate::zstd_codec::codecs(STATES, None);
    let all = u32::MAX;
    let mut chosen = |rate| codecs.choose(all, rate, Instant(0));
    assert_eq!([0, 2_875, SLOW_LINK - 1].map(&mut chosen), [CodecId::MODEL; 3]);
    assert_eq!([SLOW_LINK, 10_000_000].map(&mut chosen), [CodecId::ZSTD_HISTORY; 2]);
    assert_eq!(codecs.choose(0b111, 0, Instant(0)), CodecId::ZSTD_HISTORY, "the peer does not know it");

    let mut codec = ModelCodec::new(1);
    let offers = |codec: &mut ModelCodec, s: u64| {
        let now = Instant(s * 1_000);
        let bits = Codecs::default().with(CodecRef::Borrowed(&mut *codec)).bits(now);
        let sends = Codecs::default().with(CodecRef::Borrowed(codec)).choose(all, 0, now) == CodecId::MODEL;
        // Who is told that there will be time finds it.
        assert!(sends || bits & CodecId::MODEL.bit() == 0);
        sends
    };
    assert!(offers(&mut codec, 0));
    // Two streams and one state: each of them is learned anew, every time.
    let (bytes, stamps) = history(1, 800);
    let mut turns = 0;
    while offers(&mut codec, 1) {
        let stream = turns % 2;
        pack(&mut codec, &Past { stream, bytes: &bytes, stamps: &stamps, ..past(1, 800, 801) }).unwrap();
        turns += 1;
    }
    assert!((50..150).contains(&turns), "{turns}");
    assert!(!offers(&mut codec, 10) && offers(&mut codec, 100));
}

#[test]
fn a_sample_makes_a_new_clinics_first_events_small_and_must_be_the_same() {
    let of = |from: u64| {
        let lines: Vec<_> = (from..from + 300).map(|seq| [payload(seq), b"\n".to_vec()].concat()).collect();
        Sample::new(lines.concat()).unwrap()
    };
    let (first, other) = (of(5_000), of(6_000));
    let mut ends = [0, 1].map(|_| ModelCodec::sampled(STATES, &first));
    assert_eq!((ends[0].id(), ends[0].sample()), (CodecId::SAMPLED, first.tag()));
    let (past, raw) = (past(1, 1, 3), columns(1, 3));
    let packed = pack(&mut ends[0], &past).unwrap();
    let bare = pack(&mut ModelCodec::new(STATES), &past).unwrap();
    assert!(packed.len() * 3 < bare.len(), "{} of {}", packed.len(), bare.len());
    let mut out = vec![0; raw.len()];
    assert_eq!(ends[1].decompress_after(&past, &packed, &mut out), Ok(()));
    assert_eq!(out, raw);
    // A state that was somebody else's begins with the sample again.
    ends[1].forget(3);
    assert_eq!(ends[1].decompress_after(&past, &packed, &mut out), Ok(()));
    let wrong = ModelCodec::sampled(STATES, &other).decompress_after(&past, &packed, &mut out);
    assert!(wrong.is_err() || out != raw);
}
