//! A sealed file or a checkpoint: made up, damaged, or written by the key's holder with any content.

use alloc::vec;
use alloc::vec::Vec;

use super::Tape;
use crate::hlc::Hlc;
use crate::id::{Incarnation, Lane, NodeName, StreamKey};
use crate::log::sealed::{
    DenseType, Kind, SEALED_HEADER_BYTES, STATE_RECORD_MAX_BYTES, SealedHeader, SealedScan, SealedStart, SealedStep,
    SealedWriter, StateRecord, Summary, TRAILER_BYTES, Trailer, dense_len, find, index_records, pack, state_records,
    unpack, unpacked_len,
};
use crate::log::{DataKey, FRAME_HEAD_BYTES};
use crate::recovery::{Recovered, StreamMemory};
use crate::varint::Writer;

const KEY: [u8; 32] = [7; 32];
const TYPES: [DenseType; 3] = [DenseType::Group, DenseType::Index, DenseType::State];
/// Most bytes of a drawn body.
const BODY_MAX_BYTES: usize = 700;

/// See the [module](self).
///
/// # Panics
/// If a promise is broken.
pub fn sealed(data: &[u8]) {
    let mut tape = Tape(data);
    let how = tape.byte();
    let kind = match how >> 2 & 3 {
        0 => Kind::Segment,
        1 | 3 => Kind::Checkpoint,
        _ => Kind::Stub,
    };
    match how % 4 {
        0 => drop(scan(tape.0, kind)),
        1 => {
            let (file, written) = write(&mut tape, kind);
            let found = scan(&file, kind);
            assert_eq!((found.frames, found.sealed, found.damaged), (written, true, false), "what was written is read");
        }
        _ => {
            let (at, turn) = (tape.u16() as usize, tape.byte());
            let (mut file, written) = write(&mut tape, kind);
            let at = at % file.len();
            file[at] ^= turn;
            let found = scan(&file, kind);
            assert!(found.frames.iter().all(|f| written.contains(f)), "a frame that was never written");
        }
    }
}

#[derive(Default)]
struct Found {
    frames: Vec<(u64, Vec<u8>)>,
    sealed: bool,
    damaged: bool,
}

/// A file with bodies from the tape; where its frames are, and what they hold.
fn write(tape: &mut Tape<'_>, kind: Kind) -> (Vec<u8>, Vec<(u64, Vec<u8>)>) {
    let key = DataKey::new(KEY);
    let mut salt = [0; 32];
    salt[0] = tape.byte();
    let (none, zero) = ([0; 16], [0; 32]);
    let start =
        SealedStart { kind, number: 3, salt, key_id: 1, base_hlc: Hlc::ZERO, prev: none, link: none, prev_seal: zero };
    let header = SealedHeader::new(&key, start);
    let mut w = SealedWriter::new(header, &key).unwrap();
    let (mut file, mut frames) = (header.emit().to_vec(), Vec::new());
    let mut put = |w: &mut SealedWriter, frame_type, raw: &[u8]| {
        let mut buf = vec![0; dense_len(raw.len() + 64)];
        let n = pack(raw, None, &mut buf[FRAME_HEAD_BYTES..]).unwrap();
        let at = w.offset();
        assert_eq!(at, file.len() as u64);
        let len = w.frame(frame_type, &mut buf, n).unwrap();
        file.extend(&buf[..len]);
        frames.push((at, raw.to_vec()));
    };
    while !tape.is_over() && w.offset() < 1 << 16 {
        let (choice, len) = (tape.byte(), tape.u16() as usize % BODY_MAX_BYTES);
        put(&mut w, TYPES[usize::from(choice) % 3], tape.take(len));
    }
    let mut footer = [0; 256];
    let mut fw = Writer::new(&mut footer);
    Summary { content: w.content(), ..Summary::default() }.emit(&mut fw, []).unwrap();
    let n = fw.len();
    put(&mut w, DenseType::Seal, &footer[..n]);
    let (trailer, _) = w.finish().unwrap();
    file.extend(trailer);
    (file, frames)
}

fn scan(file: &[u8], kind: Kind) -> Found {
    let keys = [(1, DataKey::new(KEY))];
    let _ = Trailer::parse(&file[file.len().saturating_sub(TRAILER_BYTES)..]);
    let _ = SealedHeader::parse(&file[..file.len().min(SEALED_HEADER_BYTES)]);
    let mut scan = SealedScan::new(&keys, kind, 3, file.len() as u64).unwrap();
    let (mut found, mut last) = (Found::default(), None);
    let memory = StreamMemory::owned(32);
    let mut recovered = Recovered::new(NodeName::new("node_1").unwrap(), memory);
    // Each step passes a stretch of the file or asks for more of it.
    for _ in 0..file.len() / 4 + 16 {
        let mut piece = scan.poll_want().map_or_else(Vec::new, |want| {
            let from = file.get(want.offset as usize..).unwrap_or_default();
            from[..from.len().min(want.len)].to_vec()
        });
        match scan.feed(&mut piece) {
            SealedStep::NeedMore | SealedStep::Header { .. } => {}
            SealedStep::Damaged { from, to, .. } => {
                assert!(from < to && to <= file.len() as u64);
                found.damaged = true;
            }
            SealedStep::Frame { frame_type, offset, len, packed, .. } => {
                assert!(last < Some(offset) && offset + len <= file.len() as u64, "frames in order, within the file");
                last = Some(offset);
                found.frames.extend(body(frame_type, packed, &mut recovered).map(|raw| (offset, raw)));
            }
            SealedStep::End { sealed } => {
                found.sealed = sealed;
                return found;
            }
            SealedStep::Fault(_) => return found,
        }
    }
    panic!("the scan does not end");
}

/// Reads what a frame holds in every way in which it is read.
fn body(frame_type: DenseType, packed: &[u8], recovered: &mut Recovered<'static>) -> Option<Vec<u8>> {
    let mut raw = vec![0; unpacked_len(packed).ok()?];
    unpack(packed, None, &mut raw).ok()?;
    match frame_type {
        DenseType::Group => {
            let _ = recovered.group(&raw, |run| assert!(run.first_seq <= run.last_seq));
        }
        DenseType::Index => {
            let key = StreamKey {
                node: NodeName::new("node_1").unwrap(),
                incarnation: Incarnation::new(1),
                lane: Lane::Normal,
            };
            assert!(index_records(&raw).count() <= raw.len());
            if let Ok(Some(range)) = find(&raw, &key, 5) {
                assert!(range.last_seq >= 5 && range.first_seq <= range.last_seq);
            }
        }
        DenseType::State => {
            for record in state_records(&raw).map_while(Result::ok) {
                let mut out = [0; STATE_RECORD_MAX_BYTES];
                let mut w = Writer::new(&mut out);
                record.emit(&mut w).unwrap();
                let n = w.len();
                assert_eq!(
                    state_records(&out[..n]).next(),
                    Some(Ok(record)),
                    "what is read is the same after it is written"
                );
                match record {
                    StateRecord::Log(s) => recovered.restore_log(&s),
                    StateRecord::Stream(s) => drop(recovered.restore_stream(&s)),
                    StateRecord::Segment(_) => {}
                    StateRecord::Repair(r) => assert!(r.lost().all(|l| l.from <= l.to)),
                }
            }
        }
        DenseType::Seal => {
            if let Ok((_, pieces)) = Summary::parse(&raw) {
                assert!(pieces.count() <= raw.len());
            }
        }
    }
    Some(raw)
}
