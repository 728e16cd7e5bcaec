use alloc::vec;
use alloc::vec::Vec;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use super::*;
use crate::event::Records;
use crate::id::Lane;
use crate::limits::Limits;
use crate::medium::drive;
use crate::medium::ram::tests::node_of;
use crate::node::{AppendError, Node, SessionId};
use crate::policy::{Policy, Principal, Role, authorize};
use crate::time::Now;

/// Flash with words of `W` bytes and blocks of 4,096, which refuses what real flash cannot do, and
/// loses its power after so many words.
#[derive(Debug)]
struct Chip<const W: usize> {
    bytes: Vec<u8>,
    words_left: usize,
    erased: Vec<u32>,
}

#[derive(Debug)]
struct Refused;

impl NorFlashError for Refused {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl<const W: usize> Chip<W> {
    fn new(blocks: usize) -> Self {
        Self { bytes: vec![0; blocks * 4096], words_left: usize::MAX, erased: vec![0; blocks] }
    }
}

impl<const W: usize> ErrorType for Chip<W> {
    type Error = Refused;
}

impl<const W: usize> ReadNorFlash for Chip<W> {
    const READ_SIZE: usize = W;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Refused> {
        assert!((offset as usize).is_multiple_of(W) && bytes.len().is_multiple_of(W), "read at {offset}");
        bytes.copy_from_slice(self.bytes.get(offset as usize..offset as usize + bytes.len()).ok_or(Refused)?);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const W: usize> NorFlash for Chip<W> {
    const WRITE_SIZE: usize = W;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Refused> {
        assert!(from.is_multiple_of(4096) && to.is_multiple_of(4096));
        for block in from as usize / 4096..to as usize / 4096 {
            self.bytes[block * 4096..][..4096].fill(0xff);
            self.erased[block] += 1;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Refused> {
        assert!((offset as usize).is_multiple_of(W) && bytes.len().is_multiple_of(W), "write at {offset}");
        for (n, word) in bytes.chunks(W).enumerate() {
            let there = &mut self.bytes[offset as usize + n * W..][..W];
            assert!(there.iter().all(|b| *b == 0xff), "a word is written twice, at {offset} + {}", n * W);
            if self.words_left == 0 {
                return Err(Refused);
            }
            self.words_left -= 1;
            there.copy_from_slice(word);
        }
        Ok(())
    }
}

fn limits() -> Limits {
    Limits { segment_bytes: 32 << 10, ..Limits::leaf() }
}

fn now() -> Now {
    Now::new(1, 1)
}

fn medium<const W: usize>(chip: Chip<W>) -> FlashMedium<'static, Chip<W>> {
    let key = (1, DataKey::new([7; 32]));
    let buf = Lent::owned(0, padded_len(limits().group_bytes));
    FlashMedium::new(chip, key, limits().segment_bytes, limits().group_bytes, buf).unwrap()
}

fn blank<const W: usize>(blocks: usize) -> FlashMedium<'static, Chip<W>> {
    let mut flash = medium(Chip::new(blocks));
    flash.format().unwrap();
    flash
}

fn open<const W: usize>(flash: &mut FlashMedium<'static, Chip<W>>, boot: u8) -> (Node<'static>, FlashReport) {
    let name = NodeName::new("probe_1").unwrap();
    let (recovered, report) = flash.recover(name, StreamMemory::owned(limits().streams)).unwrap();
    (node_of(recovered, "probe_1", Role::Clinic, limits(), boot), report)
}

/// Appends until the flash gives up; how many events it says are durable.
fn fill<const W: usize>(node: &mut Node<'static>, flash: &mut FlashMedium<'static, Chip<W>>, most: u64) -> u64 {
    let (mut durable, mut busy, mut n) = (0, 0, 0);
    while n < most && node.storage_failed().is_none() {
        drive(node, flash, now);
        match node.append(now(), Lane::Normal, 3, &payload(n)) {
            Ok(ticket) => {
                drive(node, flash, now);
                if node.durable_group() >= ticket.group {
                    durable = ticket.seq;
                }
                (busy, n) = (0, n + 1);
            }
            Err(AppendError::Busy) if busy < 3 => busy += 1,
            Err(_) => break,
        }
    }
    durable
}

fn payload(n: u64) -> Vec<u8> {
    vec![n as u8; 1 + (n as usize * 37) % 700]
}

/// The first stream of a log, read in portions of 2,000 bytes; its length.
fn read_all<const W: usize>(node: &Node<'static>, flash: &mut FlashMedium<'static, Chip<W>>) -> u64 {
    let Some((stream, entry)) = node.streams().next() else { return 0 };
    let grant = authorize(Policy::Own, Principal::Owner, &entry.key).read.unwrap();
    let mut next = 1;
    while next <= entry.have {
        let session = SessionId { index: 0, generation: 0 };
        let request =
            ReadRequest { token: 0, session, grant, stream, from_seq: next, upto_seq: entry.have, bytes: 2_000 };
        let mut out = [0; 4096];
        let (prev_chain, bytes) = flash.read(&request, &mut out).unwrap();
        for e in (Records { first_seq: next, prev_chain, bytes: &out[..bytes] }).iter() {
            assert_eq!((e.kind, e.payload.first()), (3, e.payload.last()));
            next += 1;
        }
    }
    next - 1
}

#[test]
fn a_log_on_flash_is_there_after_each_start_and_no_block_is_erased_twice() {
    let mut flash = blank::<4>(256);
    let mut sum = 0;
    for boot in 0..5 {
        let (mut node, report) = open(&mut flash, boot);
        assert_eq!((report.damaged, report.torn_tail), (0, false));
        assert_eq!(read_all(&node, &mut flash), sum);
        sum = fill(&mut node, &mut flash, 20);
        assert_eq!(sum, 20 * (u64::from(boot) + 1));
    }
    assert!(flash.into_inner().erased.iter().all(|n| *n == 1), "by format alone");
}

#[test]
fn a_power_cut_after_any_number_of_words_costs_nothing_that_was_acknowledged() {
    for words in (0..40_000).step_by(97) {
        let mut flash = blank::<4>(64);
        let (mut node, _) = open(&mut flash, 0);
        let before = fill(&mut node, &mut flash, 10);
        flash.flash.words_left = words;
        let acked = fill(&mut node, &mut flash, 30).max(before);
        // The chip asserts that nothing is written over what the cut has left.
        flash.flash.words_left = usize::MAX;
        let (mut node, report) = open(&mut flash, 1);
        let held = read_all(&node, &mut flash);
        assert!(held >= acked && report.damaged == 0, "{words}: {held} of {acked}, {report:?}");
        let more = fill(&mut node, &mut flash, 5);
        assert_eq!(more, held + 5, "{words}");
        let (node, report) = open(&mut flash, 2);
        assert_eq!((read_all(&node, &mut flash), report.damaged), (held + 5, 0), "{words}");
    }
}

#[test]
fn full_flash_refuses_events_and_still_gives_what_it_has() {
    let mut flash = blank::<256>(16);
    let (mut node, _) = open(&mut flash, 0);
    let held = fill(&mut node, &mut flash, u64::MAX);
    drive(&mut node, &mut flash, now);
    assert_eq!(node.append(now(), Lane::Normal, 0, &[1; 700]), Err(AppendError::DiskFull));
    assert!(held > 10 && node.storage_failed().is_none());
    assert_eq!(read_all(&node, &mut flash), held);
}

#[test]
fn a_flipped_bit_on_flash_costs_its_group_and_is_told() {
    let mut flash = blank::<4>(64);
    let (mut node, _) = open(&mut flash, 0);
    fill(&mut node, &mut flash, 20);
    flash.flash.bytes[3 * 4096 + 100] ^= 4;
    let (node, report) = open(&mut flash, 1);
    assert_eq!((report.damaged, report.torn_tail), (1, false));
    assert!(node.frontier().any(|e| e.gap.is_some() && e.top == 20));
}

#[test]
fn sizes_that_do_not_fit_the_flash_are_refused() {
    let make = |blocks, segment_bytes, buf| {
        let key = (1, DataKey::new([7; 32]));
        FlashMedium::new(Chip::<4>::new(blocks), key, segment_bytes, 8192, Lent::owned(0, buf)).err()
    };
    let enough = padded_len(8192);
    assert_eq!(make(16, 32 << 10, enough), None);
    assert_eq!(make(15, 32 << 10, enough), Some(Code::Config), "one segment only");
    assert_eq!(make(16, 30 << 10, enough), Some(Code::Config), "no whole blocks");
    assert_eq!(make(16, 32 << 10, enough - 1), Some(Code::Config), "too little memory");
}
