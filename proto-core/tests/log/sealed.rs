//! Sealed files: the bytes that must never change, and what is read from damaged ones.

use ropeway_core::code::Code;
use ropeway_core::hlc::Hlc;
use ropeway_core::log::sealed::*;
use ropeway_core::log::*;
use ropeway_core::varint::Writer;

use crate::golden::{body, check};
use crate::support::{key, stream};

fn start() -> SealedStart {
    let mut salt = [0; 32];
    salt.iter_mut().zip(0xa0..).for_each(|(b, n)| *b = n);
    SealedStart {
        kind: Kind::Segment,
        number: 1,
        salt,
        key_id: 1,
        base_hlc: Hlc::new(1_770_000_000_000, 2),
        prev: [0; 16],
        link: [0x4c; 16],
        prev_seal: [0; 32],
    }
}

/// docs/LOG.md#golden-2 describes it; `groups` times the same group.
fn file(groups: usize) -> (Vec<u8>, [u8; 32], Vec<u64>) {
    let header = SealedHeader::new(&key(), start());
    let mut w = SealedWriter::new(header, &key()).unwrap();
    let mut bytes = header.emit().to_vec();
    let mut buf = vec![0; 4096];
    let mut put = |w: &mut SealedWriter, frame_type, raw: &[u8]| {
        let at = w.offset();
        assert_eq!(at, bytes.len() as u64);
        let n = pack(raw, None, &mut buf[FRAME_HEAD_BYTES..]).unwrap();
        let len = w.frame(frame_type, &mut buf, n).unwrap();
        bytes.extend(&buf[..len]);
        at
    };
    let offsets: Vec<u64> = (0..groups).map(|_| put(&mut w, DenseType::Group, &body())).collect();
    let (mut index, mut piece) = (IndexBuilder::new(), [0; 512]);
    index.stream(&mut piece, &stream()).unwrap();
    for offset in &offsets {
        index.range(&mut piece, &Range { offset: *offset, first_seq: 1, last_seq: 5 }).unwrap();
    }
    let offset = put(&mut w, DenseType::Index, &piece[..index.len()]);
    let summary = Summary {
        content: w.content(),
        groups: 1,
        events: 5,
        frames: groups as u32,
        streams: 1,
        hot_bytes: 8192,
        hlc_min: Hlc::new(1_770_000_000_000, 2),
        hlc_max: Hlc::new(1_770_000_000_301, 9),
    };
    let mut footer = [0; 512];
    let mut fw = Writer::new(&mut footer);
    summary.emit(&mut fw, [Piece { offset, first: stream() }]).unwrap();
    let n = fw.len();
    put(&mut w, DenseType::Seal, &footer[..n]);
    let (trailer, digest) = w.finish().unwrap();
    bytes.extend(trailer);
    (bytes, digest, offsets)
}

#[derive(Debug, Default, PartialEq)]
struct Found {
    groups: Vec<u64>,
    damaged: Vec<(u64, u64, Code)>,
    rotten: bool,
    end: Option<Result<bool, Code>>,
}

fn scan_with(bytes: &[u8], keys: &[(u32, DataKey)]) -> Found {
    let mut scan = SealedScan::new(keys, Kind::Segment, 1, bytes.len() as u64).unwrap();
    let mut found = Found::default();
    for _ in 0..100_000 {
        let mut piece = scan.poll_want().map_or_else(Vec::new, |want| {
            let from = (want.offset as usize).min(bytes.len());
            bytes[from..(from + want.len).min(bytes.len())].to_vec()
        });
        match scan.feed(&mut piece) {
            SealedStep::NeedMore => {}
            SealedStep::Header { repaired, .. } => found.rotten |= repaired,
            SealedStep::Frame { frame_type, offset, packed, crc_rotten, .. } => {
                found.rotten |= crc_rotten;
                if frame_type == DenseType::Group {
                    let mut raw = vec![0; unpacked_len(packed).unwrap()];
                    unpack(packed, None, &mut raw).unwrap();
                    assert_eq!(raw, body());
                    found.groups.push(offset);
                }
            }
            SealedStep::Damaged { from, to, code } => found.damaged.push((from, to, code)),
            SealedStep::End { sealed } => {
                found.end = Some(Ok(sealed));
                return found;
            }
            SealedStep::Fault(code) => {
                found.end = Some(Err(code));
                return found;
            }
        }
    }
    panic!("the scan does not end");
}

fn scan(bytes: &[u8]) -> Found {
    scan_with(bytes, &[(1, key())])
}

#[test]
fn a_sealed_segment_has_the_bytes_it_always_had() {
    let (bytes, digest, _) = file(1);
    check("sealed.hex", &bytes);
    check("sealed-digest.hex", &digest);
}

#[test]
fn a_whole_file_is_read_whole() {
    let (bytes, digest, offsets) = file(3);
    let found = scan(&bytes);
    assert_eq!(found, Found { groups: offsets, damaged: vec![], rotten: false, end: Some(Ok(true)) });
    let trailer = Trailer::parse(&bytes[bytes.len() - TRAILER_BYTES..]).unwrap();
    let footer = &bytes[trailer.footer_at as usize..bytes.len() - TRAILER_BYTES];
    assert_eq!(seal_digest(&trailer.header, footer), digest);
}

#[test]
fn any_damaged_byte_costs_one_frame_at_most_and_is_seen() {
    let (bytes, _, offsets) = file(3);
    for at in 0..bytes.len() - TRAILER_BYTES {
        let mut b = bytes.clone();
        b[at] ^= 0x18;
        let found = scan(&b);
        assert!(found.groups.len() >= 2, "byte {at}: {found:?}");
        assert!(found.groups.iter().all(|g| offsets.contains(g)));
        let padding = found == scan(&bytes);
        assert!(!found.damaged.is_empty() || found.rotten || padding, "byte {at}: {found:?}");
        if padding {
            assert!(!offsets.iter().any(|o| (*o..o + 8).contains(&(at as u64))), "byte {at}");
        }
    }
}

#[test]
fn a_file_that_was_cut_shows_it_and_gives_what_is_left() {
    let (bytes, _, offsets) = file(3);
    for len in 0..bytes.len() {
        let found = scan(&bytes[..len]);
        let whole = offsets.iter().skip(1).filter(|o| **o + TRAILER_BYTES as u64 <= len as u64).count();
        match found.end {
            Some(Err(code)) => assert_eq!(code, Code::SegmentHeader, "{len}"),
            Some(Ok(sealed)) => assert!(!sealed && found.groups.len() >= whole, "{len}: {found:?}"),
            None => unreachable!(),
        }
    }
}

#[test]
fn refusals_come_before_anything_is_read() {
    let (bytes, ..) = file(1);
    let refused = |code| Found { end: Some(Err(code)), ..Found::default() };
    assert_eq!(scan_with(&bytes, &[(1, DataKey::new([9; 32]))]), refused(Code::WrongKey));
    assert_eq!(scan_with(&bytes, &[(2, key())]), refused(Code::KeyMissing));
    let mut newer = bytes.clone();
    newer[8] = 2;
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISCSI).checksum(&newer[..SEALED_HEADER_BYTES - 4]);
    newer[SEALED_HEADER_BYTES - 4..SEALED_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(scan(&newer), refused(Code::FormatNewer));
}

#[test]
fn frames_do_not_open_elsewhere_nor_does_the_writer_go_on_after_the_footer() {
    let (bytes, _, offsets) = file(2);
    let cipher = SealedHeader::new(&key(), start()).cipher(&key()).unwrap();
    let mut frame = bytes[offsets[0] as usize..offsets[1] as usize].to_vec();
    assert_eq!(cipher.open(offsets[1], &mut frame).err(), Some(FrameFault::Damaged));
    assert!(cipher.open(offsets[0], &mut frame).is_ok());
    let mut w = SealedWriter::new(SealedHeader::new(&key(), start()), &key()).unwrap();
    assert_eq!(w.finish(), Err(Code::State));
    let mut buf = [0; 64];
    w.frame(DenseType::Seal, &mut buf, 8).unwrap();
    assert_eq!(w.frame(DenseType::Group, &mut buf, 8), Err(Code::State));
}
