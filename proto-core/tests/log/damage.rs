//! Damage of every kind: nothing wrong is ever returned, nothing else is lost.

use crate::support::*;
use ropeway_core::code::Code;
use ropeway_core::log::*;

/// 12 groups in two epochs, one of them two pages long, then three empty pages.
fn sample() -> (Segment, Vec<(u64, Body)>) {
    let mut s = Segment::new(4, 18);
    let mut groups = Vec::new();
    s.epoch(1);
    for i in 0..8 {
        groups.push(s.group(if i == 5 { 5000 } else { 20 + i }));
    }
    s.epoch(2);
    groups.extend((0..4).map(|i| s.group(30 + i)));
    assert_eq!(s.page, 15);
    (s, groups)
}

fn without(groups: &[(u64, Body)], lost: &[usize]) -> Vec<(u64, Body)> {
    groups.iter().enumerate().filter(|(i, _)| !lost.contains(i)).map(|(_, g)| g.clone()).collect()
}

fn at(page: u64) -> usize {
    page as usize * PAGE_BYTES
}

#[test]
fn a_whole_segment_is_read_back_and_ends_clean() {
    let (s, groups) = sample();
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, groups);
    assert_eq!(f.epochs, [(0, false, None), (10, false, Some(true))]);
    assert_eq!(f.verdict(), Verdict::CleanEnd);
    assert_eq!((f.end().from_page, f.end().to_page, f.end().link), (15, 15, s.link));
    let full = &s.bytes[..at(15)];
    assert_eq!((scan(full, 4).groups.len(), scan(full, 4).verdict()), (12, Verdict::CleanEnd), "a full segment");
}

#[test]
fn every_single_flipped_bit_costs_at_most_the_frame_it_is_in() {
    let (mut s, groups) = sample();
    let used = |page: u64| match groups.iter().find(|g| g.0 == page) {
        None => HEADER_BYTES,
        Some((_, body)) => FRAME_HEAD_BYTES + body.0.len() + FRAME_TAG_BYTES,
    };
    for (page, next) in [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        .into_iter()
        .zip([1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16])
    {
        let meaningful = if page == 15 { 4 } else { used(page) };
        // The long frame is sampled; of padding, which nothing reads, some bits are enough.
        let step = if meaningful > 1000 { 97 } else { 1 };
        let dense = (0..meaningful * 8).step_by(step);
        let sparse = (meaningful * 8..(at(next) - at(page)) * 8).step_by(1009);
        for bit in dense.chain(sparse) {
            s.bytes[at(page) + bit / 8] ^= 1 << (bit % 8);
            let f = scan(&s.bytes, 4);
            s.bytes[at(page) + bit / 8] ^= 1 << (bit % 8);
            let index = groups.iter().position(|g| g.0 == page);
            let what = format!("page {page} bit {bit}: {:?} {:?}", f.damaged, f.end);
            match index {
                Some(_) if bit >= meaningful * 8 => assert!(f.groups == groups && f.damaged.is_empty(), "{what}"),
                Some(_) if (32..64).contains(&bit) => {
                    assert_eq!((&f.groups, &f.rotten), (&groups, &vec![page]), "{what}");
                }
                Some(i) => {
                    assert_eq!(f.groups, without(&groups, &[i]), "{what}");
                    if i == 11 {
                        assert!(f.damaged.is_empty(), "{what}");
                        assert!(f.verdict() == Verdict::TornTail, "{what}");
                        assert_eq!(f.end().verdict(Place::Last, true), Verdict::Corrupt, "a receipt covers it");
                        assert_eq!(f.end().verdict(Place::Broken, false), Verdict::Corrupt);
                    } else {
                        assert_eq!(f.damaged, [(page, next, Some(Code::Corrupt))], "{what}");
                        assert_eq!(f.verdict(), Verdict::CleanEnd, "{what}");
                    }
                }
                None => {
                    assert_eq!((&f.groups, f.damaged.len()), (&groups, 0), "{what}");
                    let repaired = f.epochs.iter().any(|e| e.1);
                    assert_eq!(repaired, page != 15 && bit < meaningful * 8, "{what}");
                    let torn = page == 15;
                    assert_eq!(f.verdict(), if torn { Verdict::TornTail } else { Verdict::CleanEnd }, "{what}");
                }
            }
        }
    }
}

#[test]
fn a_lost_page_in_the_middle_costs_its_frame_only() {
    let (mut s, groups) = sample();
    s.bytes[at(6)..at(7)].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, without(&groups, &[5]));
    assert_eq!(f.damaged, [(6, 8, Some(Code::Corrupt))]);
}

#[test]
fn a_swapped_frame_is_rejected_at_both_places() {
    let (mut s, groups) = sample();
    let (a, b) = (s.bytes[at(2)..at(3)].to_vec(), s.bytes[at(4)..at(5)].to_vec());
    s.bytes[at(2)..at(3)].copy_from_slice(&b);
    s.bytes[at(4)..at(5)].copy_from_slice(&a);
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, without(&groups, &[1, 3]));
    assert_eq!(f.damaged.len(), 2);
}

#[test]
fn a_frame_copied_from_another_segment_or_epoch_is_rejected() {
    let (mut s, groups) = sample();
    for (salt, code) in [(3, Code::Corrupt), (1, Code::Tampered)] {
        let mut other = Segment::new(5, 18);
        other.epoch(salt);
        other.group(20);
        s.bytes[at(1)..at(2)].copy_from_slice(&other.bytes[at(1)..at(2)]);
        let f = scan(&s.bytes, 4);
        assert_eq!(f.groups, without(&groups, &[0]));
        assert_eq!(f.damaged, [(1, 2, Some(code))], "only under an equal salt does the checksum hold");
    }
    s.bytes.copy_within(at(12)..at(13), at(1));
    assert_eq!(scan(&s.bytes, 4).groups, without(&groups, &[0]));
}

#[test]
fn frames_moved_up_over_a_deleted_one_are_rejected() {
    let (mut s, groups) = sample();
    s.bytes.copy_within(at(13)..at(15), at(12));
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups, &f.damaged), (&without(&groups, &[9, 10]), &vec![(12, 14, Some(Code::Corrupt))]));
    s.bytes[at(14)..].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups[..], f.verdict()), (&groups[..9], Verdict::TornTail));
    assert_eq!(f.end().verdict(Place::Broken, false), Verdict::Corrupt, "the next header knows better");
}

/// The same from a writer that makes no copies of headers.
fn strip_copies(s: &mut Segment) {
    for page in s.bytes.chunks_mut(PAGE_BYTES).filter(|p| Header::copy_in(p).is_some()) {
        page[PAGE_BYTES - HEADER_BYTES..].fill(0);
    }
}

#[test]
fn a_lost_header_page_costs_no_frame_behind_it() {
    let (s, groups) = sample();
    for lost in [&[0][..], &[10], &[0, 10]] {
        for byte in [0, 0xff, 0x5a] {
            let mut bytes = s.bytes.clone();
            lost.iter().for_each(|p| bytes[at(*p)..at(p + 1)].fill(byte));
            let f = scan(&bytes, 4);
            assert_eq!(
                (&f.groups, &f.damaged[..], f.verdict(), f.end().link),
                (&groups, &[][..], Verdict::CleanEnd, s.link)
            );
            let repaired: Vec<u64> = f.epochs.iter().filter(|e| e.1).map(|e| e.0).collect();
            assert_eq!((repaired, f.epochs[1].2), (lost.to_vec(), Some(true)), "{byte}");
        }
    }
    // The frames next to it are lost, too, also the one before: a later copy tells of the header.
    let mut bytes = s.bytes.clone();
    bytes[at(9)..at(13)].fill(0);
    let f = scan(&bytes, 4);
    assert_eq!(f.groups, without(&groups, &[7, 8, 9]));
    assert_eq!(f.damaged, [(9, 10, Some(Code::Corrupt)), (11, 13, Some(Code::Corrupt))]);
    // Behind a frame of two pages the copy stands in the second.
    let mut s = Segment::new(4, 18);
    s.epoch(1);
    let groups: Vec<_> = [5000, 20].map(|len| s.group(len)).into();
    s.bytes[..PAGE_BYTES].fill(0);
    assert_eq!(scan(&s.bytes, 4).groups, groups);
}

#[test]
fn an_epoch_of_which_only_copies_landed_never_began() {
    let mut s = Segment::new(4, 18);
    s.epoch(1);
    let groups: Vec<_> = [20, 30].map(|len| s.group(len)).into();
    let link = s.link;
    s.epoch(2);
    s.group(9000);
    // Of the header page and the three pages of the frame only the last sector has reached the disk.
    s.bytes[at(3)..at(7) - 512].fill(0);
    assert!(Header::copy_in(&s.bytes[at(6)..]).is_some());
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups, f.epochs.len(), f.end().link), (&groups, 1, link));
    assert_eq!((f.verdict(), f.end().from_page, f.end().to_page), (Verdict::TornTail, 3, 7));
}

#[test]
fn a_copy_of_another_header_is_no_help() {
    let (s, groups) = sample();
    // Of another segment, and of a page that comes later.
    for header in [(5, 10), (4, 11)] {
        let start =
            EpochStart { segment: header.0, page: header.1, ..Header::parse(&s.bytes[at(10)..]).unwrap().start };
        let mut bytes = s.bytes.clone();
        bytes[at(10)..at(11)].fill(0);
        for page in 11..15 {
            Header::new(&key(), start).copy_into(&mut bytes[at(page) + 200..at(page + 1)]);
        }
        let f = scan(&bytes, 4);
        assert_eq!(f.groups, groups[..8], "{header:?}");
    }
}

#[test]
fn a_damaged_header_without_copies_costs_its_epoch_and_is_seen() {
    let (mut s, groups) = sample();
    strip_copies(&mut s);
    s.bytes[at(10) + 40..at(10) + 60].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, groups[..8]);
    assert_eq!((f.end().tail, f.end().from_page, f.end().to_page), (Tail::BadHeader, 10, 15));
    s.bytes[at(0) + 40..at(0) + 60].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!((f.groups.len(), f.verdict()), (0, Verdict::Suspect), "more than one write can tear");
    let (mut s, groups) = sample();
    strip_copies(&mut s);
    s.bytes[..60].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, groups[8..]);
    assert_eq!(f.damaged, [(0, 10, Some(Code::Corrupt))]);
    assert_eq!(f.epochs, [(10, false, Some(false))]);
}

#[test]
fn a_tail_torn_at_any_byte_costs_the_last_group_at_most() {
    let (s, groups) = sample();
    for cut in at(12)..=at(15) {
        let whole = groups.iter().filter(|(p, body)| at(*p) + FRAME_HEAD_BYTES + body.0.len() + FRAME_TAG_BYTES <= cut);
        let whole = whole.count();
        let mut zeroed = s.bytes.clone();
        zeroed[cut..].fill(0);
        for (bytes, how) in [(&zeroed[..], "zeros follow"), (&s.bytes[..cut], "the file ends")] {
            let f = scan(bytes, 4);
            // A tag that ends in zeros is whole before its last byte is.
            assert!(f.groups == groups[..whole] || f.groups == groups[..whole + 1], "cut at {cut}, {how}");
            assert!(f.damaged.is_empty());
            let begun = cut > at(f.end().from_page);
            let expected = if begun { Verdict::TornTail } else { Verdict::CleanEnd };
            assert_eq!(f.verdict(), expected, "cut at {cut}, {how}");
        }
    }
}

#[test]
fn a_segment_of_any_length_down_to_nothing_is_read_without_harm() {
    let (s, groups) = sample();
    for cut in (0..at(12)).step_by(509) {
        let f = scan(&s.bytes[..cut], 4);
        assert_eq!(f.groups, groups[..f.groups.len()]);
        assert!(matches!(f.verdict(), Verdict::CleanEnd | Verdict::TornTail), "{cut}");
    }
}

#[test]
fn sectors_of_a_torn_group_that_landed_out_of_order_are_torn_or_nothing() {
    let (s, groups) = sample();
    let last = at(14);
    for landed in 0..256u32 {
        let mut bytes = s.bytes.clone();
        for sector in (0..8).filter(|n| landed & (1 << n) == 0) {
            bytes[last + sector * 512..last + (sector + 1) * 512].fill(0);
        }
        let f = scan(&bytes, 4);
        assert!(f.groups == groups[..11] || landed & 1 == 1);
        // The copy of the header stands in the last sector.
        let torn = landed & 0x81 == 0x80;
        assert_eq!(f.verdict(), if torn { Verdict::TornTail } else { Verdict::CleanEnd });
    }
}

#[test]
fn damage_longer_than_a_group_at_the_end_is_suspect() {
    let (mut s, groups) = sample();
    s.bytes[at(8)..at(15)].fill(0x5a);
    let f = scan(&s.bytes, 4);
    assert_eq!(f.groups, groups[..6]);
    assert_eq!(f.verdict(), Verdict::Suspect);
    assert_eq!((f.end().from_page, f.end().to_page), (8, 15));
}

#[test]
fn pages_of_another_life_of_the_file_are_never_read_nor_written_over() {
    let mut old = Segment::new(3, 18);
    old.epoch(9);
    for _ in 0..6 {
        old.group(50);
    }
    old.epoch(10);
    for _ in 0..6 {
        old.group(50);
    }
    let mut s = Segment::new(4, 18);
    s.bytes = old.bytes.clone();
    s.epoch(1);
    let groups: Vec<_> = (0..3).map(|_| s.group(20)).collect();
    s.bytes[at(4)..at(5)].fill(0);
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups, f.damaged.len(), f.verdict()), (&groups, 0, Verdict::Suspect));
    assert_eq!((f.end().from_page, f.end().to_page), (4, 14));
    // The same without the empty page.
    s.bytes[at(4)..at(5)].copy_from_slice(&old.bytes[at(4)..at(5)]);
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups, f.verdict()), (&groups, Verdict::Suspect));
}

#[test]
fn a_header_page_that_reads_as_zeros_is_no_clean_end() {
    let mut s = Segment::new(4, 18);
    s.epoch(1);
    let first: Vec<_> = (0..3).map(|_| s.group(20)).collect();
    s.epoch(2);
    (0..3).for_each(|_| drop(s.group(20)));
    strip_copies(&mut s);
    for (page, left) in [(0, &[][..]), (4, &first[..])] {
        let mut bytes = s.bytes.clone();
        bytes[at(page)..at(page + 1)].fill(0);
        let f = scan(&bytes, 4);
        if page == 4 {
            assert_eq!((f.groups.as_slice(), f.damaged.len()), (left, 0));
            assert!(matches!(f.verdict(), Verdict::TornTail | Verdict::Suspect), "{:?}", f.verdict());
        } else {
            assert_ne!((f.groups.as_slice(), f.verdict()), (left, Verdict::CleanEnd));
        }
    }
}

#[test]
fn any_first_word_is_met_without_reading_beyond_the_segment() {
    let (mut s, groups) = sample();
    let words = [1 << 24 | 0xff_ffff, 1 << 24 | (MAX_BODY as u32), 1 << 24 | 9000, 31 << 24, 0x8100_0001, 1, u32::MAX];
    for (page, word) in [2u64, 14, 16, 17].into_iter().flat_map(|p| words.map(|w| (p, w))) {
        let before: [u8; 4] = s.bytes[at(page)..at(page) + 4].try_into().unwrap();
        s.bytes[at(page)..at(page) + 4].copy_from_slice(&u32::to_le_bytes(word));
        let f = scan(&s.bytes, 4);
        assert_eq!(
            f.groups,
            without(&groups, &groups.iter().position(|g| g.0 == page).into_iter().collect::<Vec<_>>())
        );
        s.bytes[at(page)..at(page) + 4].copy_from_slice(&before);
    }
}

#[test]
fn a_wrong_key_is_told_before_anything_is_read() {
    let (s, _) = sample();
    let f = scan_with(&s.bytes, 4, &[(1, DataKey::new([0x12; 32]))]);
    assert_eq!((f.end, f.groups.len(), f.epochs.len()), (Some(Err(Code::WrongKey)), 0, 0));
    let f = scan_with(&s.bytes, 4, &[(2, key())]);
    assert_eq!((f.end, f.epochs.len()), (Some(Err(Code::KeyMissing)), 0));
}

#[test]
fn a_header_altered_with_a_right_checksum_is_tampering_not_a_wrong_key() {
    let (mut s, groups) = sample();
    for at_byte in [40, 80, 88, 104] {
        let mut bytes = s.bytes.clone();
        bytes[at(10) + at_byte] ^= 1;
        patch_crc(&mut bytes[at(10)..]);
        let f = scan(&bytes, 4);
        if matches!(at_byte, 40 | 104) {
            // It does not fit its commitment; the copies do.
            let damaged = [(10, 11, Some(Code::Tampered))];
            assert_eq!((&f.groups, &f.damaged[..], f.verdict()), (&groups, &damaged[..], Verdict::CleanEnd));
        } else {
            assert_eq!((&f.groups[..], f.verdict()), (&groups[..8], Verdict::Tampered), "byte {at_byte}");
        }
    }
    s.bytes[at(0) + 80] ^= 1;
    patch_crc(&mut s.bytes);
    let f = scan(&s.bytes, 4);
    assert_eq!((&f.groups[..], &f.damaged[..]), (&groups[8..], &[(1, 10, Some(Code::Tampered))][..]));
}

#[test]
fn a_newer_format_is_refused_whole() {
    for (at_byte, value) in [(8, 2), (12, 1), (20, 2), (21, 13)] {
        let (mut s, _) = sample();
        s.bytes[at_byte] = value;
        patch_crc(&mut s.bytes);
        let f = scan(&s.bytes, 4);
        assert_eq!((f.end, f.groups.len()), (Some(Err(Code::FormatNewer)), 0));
    }
}

#[test]
fn a_segment_under_another_number_is_not_taken() {
    let (s, _) = sample();
    let f = scan(&s.bytes, 5);
    assert_eq!((f.groups.len(), f.end().tail), (0, Tail::BadHeader));
    assert_ne!(f.verdict(), Verdict::CleanEnd);
}

#[test]
fn a_frame_of_a_reserved_type_is_of_a_newer_format() {
    let (mut s, groups) = sample();
    s.frame(FrameType::Seal, 40);
    let f = scan(&s.bytes, 4);
    assert_eq!((f.end, f.groups), (Some(Err(Code::FormatNewer)), groups));
}

#[test]
fn the_next_segment_tells_whether_a_bad_tail_was_torn_or_lost() {
    let (mut s, _) = sample();
    let mut next = Segment::new(5, 2);
    next.link = s.link;
    next.epoch(3);
    let prev = Header::parse(&next.bytes).unwrap().start.prev;
    let place = |end: End| if end.link == prev { Place::Continued } else { Place::Broken };
    s.bytes[at(15)] = 1;
    let end = scan(&s.bytes, 4).end();
    assert_eq!(end.verdict(place(end), true), Verdict::TornTail, "set aside when the next segment began");
    s.bytes[at(14)] ^= 1;
    let end = scan(&s.bytes, 4).end();
    assert_eq!(end.verdict(place(end), false), Verdict::Corrupt, "a group that the next header knows is gone");
}

#[test]
fn noise_is_never_a_panic_nor_a_group() {
    let mut noise = 1u64;
    for round in 0..100 {
        let (s, groups) = sample();
        let mut bytes = s.bytes;
        let from = at(round % 18);
        for b in &mut bytes[from..] {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *b = (noise >> 56) as u8;
        }
        for page in round % 18..18 {
            // Words that look like frames, so that the noise is tried as one.
            bytes[at(page) + 3] = 1;
            bytes[at(page) + 2] = 0;
        }
        let f = scan(&bytes, 4);
        assert_eq!(f.groups, groups[..f.groups.len()]);
        assert!(f.groups.iter().all(|(page, _)| at(*page) < from));
    }
}

#[test]
fn a_page_that_the_disk_cannot_read_is_damage() {
    let (s, groups) = sample();
    let keys = [(1, key())];
    let mut scan = SegmentScan::new(&keys, 4, s.bytes.len() as u64, MAX_BODY).unwrap();
    let (mut pages, mut damaged) = (Vec::new(), Vec::new());
    while let Some(want) = scan.poll_want() {
        let from = want.offset as usize;
        let mut bytes = s.bytes[from..from + want.len].to_vec();
        let bad = (from..from + want.len).contains(&at(3));
        match if bad { scan.unreadable() } else { scan.feed(&mut bytes) } {
            Step::Group { page, .. } => pages.push(page),
            Step::Damaged { from_page, to_page, .. } => damaged.push((from_page, to_page)),
            _ => {}
        }
    }
    assert_eq!((pages.len(), damaged), (groups.len() - 1, vec![(3, 4)]));
}

/// CRC32C, bit by bit: independent of the library that the codec uses.
fn patch_crc(header: &mut [u8]) {
    let mut crc = u32::MAX;
    for byte in &header[..124] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    header[124..128].copy_from_slice(&(!crc).to_le_bytes());
}
