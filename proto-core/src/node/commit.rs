//! Commit groups: one fills while the other is written and synced. One group is in flight at a
//! time (docs/LOG.md#frame-7), and every session and the application share it.

mod durable;

use super::{Node, ReadRequest, Rng};
use crate::code::Code;
use crate::event::{Chain, Event, flags};
use crate::fifo::Fifo;
use crate::hlc::Hlc;
use crate::limits::Limits;
use crate::log::{
    Cipher, DataKey, EpochStart, Expired, FRAME_HEAD_BYTES, FRAME_TAG_BYTES, FrameType, GroupBuilder, HEADER_BYTES,
    Header, Lack, PAGE_BYTES, Parent, Receipt, Repair, StreamDecl, frame_pages, link_digest,
};
use crate::mem::Lent;
use crate::planted::{Bug, has, mark};
use crate::recovery::LogTail;
use crate::streams::{Position, StreamSlot};
use crate::time::Now;

/// Where in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct LogPosition {
    /// Number of the segment, from 1.
    pub segment: u64,
    /// Byte offset in it, a multiple of 4,096.
    pub offset: u64,
}

/// What the disk is to do, in the order in which effects are polled.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect<'a> {
    /// Make the file of a segment: full size, all zeros, synced, its directory entry too. Answer
    /// with [`Completion::Provisioned`] or [`Completion::WriteFailed`].
    Provision {
        /// Its number.
        segment: u64,
    },
    /// Write these bytes there. The segment has been provisioned.
    Append {
        /// Number of the group.
        group: u64,
        /// Where.
        at: LogPosition,
        /// What.
        bytes: &'a [u8],
    },
    /// Sync what was appended; then answer with [`Completion::Durable`].
    Sync {
        /// Number of the last group that the sync covers.
        upto: u64,
    },
    /// Read events and hand them to [`Node::complete_read`], with an empty buffer: a batch waits for what
    /// it refers to.
    Read(ReadRequest),
}

/// Why the disk could not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum WriteFault {
    /// No space. Harmless for a `Provision`: events are refused until there is space.
    Full,
    /// The file system is read-only.
    ReadOnly,
    /// Anything else. After a failed write or sync nobody knows what is on the disk, so the node
    /// stops acknowledging for good.
    Failed,
}

/// What the disk has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// Everything up to this group is on stable storage. A watermark: several may be merged into
    /// the last, and telling one twice is harmless.
    Durable {
        /// Number of the group.
        upto: u64,
    },
    /// The segment's file is there.
    Provisioned {
        /// Its number.
        segment: u64,
    },
    /// It failed.
    WriteFailed {
        /// How.
        fault: WriteFault,
        /// True if it was a `Provision`.
        provisioning: bool,
    },
}

/// Why nothing can be added to the group now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoRoom {
    /// Until the disk has caught up.
    Busy,
    /// Until there is space.
    DiskFull,
    /// For good.
    Failed(Code),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    None,
    /// Appended; the sync has yet to be polled.
    Written(u64),
    Syncing(u64),
}

/// Most bytes that the declaration of a stream and a receipt take.
pub(super) const DECL_MAX_BYTES: usize = 128;

#[derive(Debug)]
pub(super) struct Commit<'m> {
    bufs: [Lent<'m, u8>; 2],
    key_id: u32,
    key: DataKey,
    group_bytes: usize,
    segment_pages: u64,

    /// Number of the group that fills. Its parity chooses the buffer.
    group: u64,
    builder: GroupBuilder,
    /// Room for the body of the group that fills.
    room: usize,
    declared: u32,
    /// The clock when the group began.
    base_hlc: Hlc,
    /// Streams in the group of each parity.
    members: [Fifo; 2],
    flight: Flight,
    durable: u64,
    pub(super) flush_receipts: bool,

    segment: u64,
    next_page: u64,
    epoch: Option<(Header, Cipher)>,
    /// What the next epoch header links to.
    link: [u8; 16],
    /// The current segment must not be written to any more.
    spent: bool,
    provisioned: u64,
    provisioning: bool,
    provision_fault: Option<WriteFault>,
    failed: Option<Code>,
}

impl<'m> Commit<'m> {
    pub(super) fn new(
        bufs: [Lent<'m, u8>; 2],
        limits: &Limits,
        key: (u32, DataKey),
        tail: LogTail,
        refused: Option<Code>,
    ) -> Self {
        if !tail.clean && tail.segment > 0 {
            mark!("commit.segment_left");
        }
        Self {
            bufs,
            key_id: key.0,
            key: key.1,
            group_bytes: limits.group_bytes,
            segment_pages: (limits.segment_bytes / PAGE_BYTES) as u64,
            group: 1,
            builder: GroupBuilder::new(),
            room: 0,
            declared: 0,
            base_hlc: Hlc::ZERO,
            members: [Fifo::EMPTY; 2],
            flight: Flight::None,
            durable: 0,
            flush_receipts: false,
            segment: tail.segment,
            next_page: tail.next_page.saturating_sub(u64::from(has(Bug::NextPageOffByOne))),
            epoch: None,
            link: tail.link,
            spent: !tail.clean && !has(Bug::TornTailContinued) || tail.segment == 0,
            provisioned: tail.segment,
            provisioning: false,
            provision_fault: None,
            failed: refused,
        }
    }

    pub(super) fn failed(&self) -> Option<Code> {
        self.failed
    }

    pub(super) fn group(&self) -> u64 {
        self.group
    }

    pub(super) fn durable(&self) -> u64 {
        if has(Bug::TicketTooEarly) { self.group - 1 } else { self.durable }
    }

    /// The newest group that has anything in it.
    pub(super) fn last_used(&self) -> u64 {
        if self.builder.is_empty() { self.group - 1 } else { self.group }
    }

    fn parity(&self) -> usize {
        (self.group % 2) as usize
    }

    /// Pages that the segment still has for frames of a new epoch or the running one.
    fn pages_left(&self) -> u64 {
        let header = u64::from(self.epoch.is_none() && !has(Bug::SegmentOverrun));
        if self.spent { 0 } else { self.segment_pages.saturating_sub(self.next_page + header) }
    }

    /// Makes sure that `need` bytes of records fit into the group that fills.
    pub(super) fn reserve(&mut self, need: usize) -> Result<(), NoRoom> {
        if let Some(code) = self.failed {
            return Err(NoRoom::Failed(code));
        }
        if !self.builder.is_empty() {
            if self.room - self.builder.len() >= need {
                return Ok(());
            }
            mark!("commit.group_full");
            return Err(NoRoom::Busy);
        }
        let frame = |pages: u64| (pages as usize * PAGE_BYTES).saturating_sub(FRAME_HEAD_BYTES + FRAME_TAG_BYTES);
        if frame(self.pages_left()) < need {
            if self.provisioned <= self.segment && !has(Bug::UnprovisionedUsed) {
                mark!("commit.segment_awaited");
                // A disk that was full may have room again by now.
                let full = self.provision_fault.take();
                if full.is_some() {
                    mark!("commit.disk_full");
                    if has(Bug::FullDiskForGood) {
                        self.provision_fault = full;
                    }
                }
                return Err(match full {
                    None => NoRoom::Busy,
                    Some(WriteFault::ReadOnly) => NoRoom::Failed(Code::ReadOnly),
                    Some(_) => NoRoom::DiskFull,
                });
            }
            mark!("commit.next_segment");
            self.segment += 1;
            self.next_page = 0;
            self.epoch = None;
            self.spent = false;
        }
        self.room = frame(self.pages_left()).min(self.group_bytes);
        if self.room < need { Err(NoRoom::Failed(Code::TooLarge)) } else { Ok(()) }
    }

    /// Bytes of records that still fit the group that fills, behind what was reserved for.
    pub(super) fn room_left(&self) -> usize {
        self.room - self.builder.len()
    }

    /// The body area of the group that fills, and its builder.
    fn body(&mut self) -> (&mut GroupBuilder, &mut [u8]) {
        let at = PAGE_BYTES + FRAME_HEAD_BYTES;
        let parity = self.parity();
        (&mut self.builder, &mut self.bufs[parity][at..at + self.room])
    }

    fn wants_provision(&self) -> bool {
        let group = frame_pages(self.group_bytes);
        let low = self.pages_left() < (self.segment_pages / 4).max(group);
        low && self.provisioned <= self.segment
            && !self.provisioning
            && self.provision_fault.is_none()
            && self.failed.is_none()
    }

    /// Seals the group that fills; the bytes to write and where they go.
    fn seal(&mut self, rng: &mut Rng, now: Now) -> Result<(LogPosition, core::ops::Range<usize>, usize), Code> {
        let parity = self.parity();
        let mut start = PAGE_BYTES;
        let first_page = self.next_page;
        if self.epoch.is_none() {
            // What is to be sealed goes into the salt: should the seed repeat (no entropy at early
            // boot), then other content in the same place still gets another key. So do the clocks: the
            // same first group, come again after a crash, may be followed by others than before.
            let body = &self.bufs[parity][PAGE_BYTES + FRAME_HEAD_BYTES..][..self.builder.len()];
            let mut mix = [0; 64];
            mix[..8].copy_from_slice(&self.segment.to_le_bytes());
            mix[8..16].copy_from_slice(&self.next_page.to_le_bytes());
            mix[16..48].copy_from_slice(blake3::hash(body).as_bytes());
            mix[48..56].copy_from_slice(&now.wall_ms.to_le_bytes());
            mix[56..].copy_from_slice(&now.at.0.to_le_bytes());
            let header = Header::new(
                &self.key,
                EpochStart {
                    segment: self.segment,
                    page: self.next_page,
                    salt: if has(Bug::SaltFromPlace) { *blake3::hash(&mix[..16]).as_bytes() } else { rng.draw(&mix) },
                    key_id: self.key_id,
                    base_hlc: self.base_hlc,
                    prev: if has(Bug::EpochUnlinked) { [0; 16] } else { self.link },
                },
            );
            if self.next_page > 0 {
                mark!("commit.epoch_within_segment");
            }
            let page = &mut self.bufs[parity][..PAGE_BYTES];
            page.fill(0);
            page[..HEADER_BYTES].copy_from_slice(&header.emit());
            self.epoch = Some((header, Cipher::new(&header, &self.key)?));
            self.next_page += 1;
            start = 0;
        }
        let Some((header, cipher)) = &self.epoch else { return Err(Code::Storage) };
        let frame = &mut self.bufs[parity][PAGE_BYTES..];
        let (len, tag) = cipher.seal(self.next_page, FrameType::Group, frame, self.builder.len())?;
        header.copy_into(&mut frame[FRAME_HEAD_BYTES + self.builder.len() + FRAME_TAG_BYTES..len]);
        self.link = link_digest(header, &tag);
        self.next_page += (len / PAGE_BYTES) as u64;
        let at = LogPosition { segment: self.segment, offset: first_page * PAGE_BYTES as u64 };
        self.group += 1;
        self.builder = GroupBuilder::new();
        self.declared = 0;
        Ok((at, start..PAGE_BYTES + len, parity))
    }
}

impl Node<'_> {
    /// Room for a stream's declaration and `events` bytes of events.
    pub(super) fn reserve(&mut self, events: usize) -> Result<(), NoRoom> {
        self.commit.reserve(DECL_MAX_BYTES + events)?;
        if self.commit.builder.is_empty() {
            // No event of the group is stamped earlier (docs/LOG.md#header-1).
            self.commit.base_hlc = self.clock.last();
        }
        Ok(())
    }

    /// Puts one event behind what the stream holds now (or into its gap). Room was reserved.
    pub(super) fn put_event(&mut self, n: u32, seq: u64, prev: &Chain, event: &Event<'_>) -> Result<(), NoRoom> {
        let full = |_| NoRoom::Busy;
        self.declare(n)?;
        let parity = self.commit.parity();
        let Some(s) = self.streams.at_mut(n) else { return Err(NoRoom::Busy) };
        let index = s.dict_index;
        let (builder, body) = self.commit.body();
        if event.flags & flags::WITHHELD == 0 || !has(Bug::WithheldUnnoted) {
            builder.push_event(body, index, seq, prev, event).map_err(full)?;
        }
        self.join_group(n, parity, seq);
        if let Some(s) = self.streams.at_mut(n) {
            s.advance(Position { seq, chain: prev.then(event) }, event.hlc);
            match event.flags & flags::WITHHELD {
                0 => s.came(seq, seq),
                _ => s.withhold(seq, seq),
            }
        }
        Ok(())
    }

    /// Notes in the group that fills that a stream goes on behind what is gone at its source. Room was
    /// reserved.
    pub(super) fn put_expired(&mut self, n: u32, at: Position) -> Result<(), NoRoom> {
        self.declare(n)?;
        let parity = self.commit.parity();
        let Some(s) = self.streams.at_mut(n) else { return Err(NoRoom::Busy) };
        let expired = Expired { index: s.dict_index, seq: at.seq, chain: at.chain };
        s.skip_to(at).map_err(|_| NoRoom::Busy)?;
        let (builder, body) = self.commit.body();
        builder.expired(body, &expired).map_err(|_| NoRoom::Busy)?;
        self.join_group(n, parity, at.seq + 1);
        Ok(())
    }

    /// The stream has something in the group that fills; events, if any, from `first_seq` on.
    fn join_group(&mut self, n: u32, parity: usize, first_seq: u64) {
        let hook = StreamSlot::group_hook(parity);
        if !self.streams.slots[n as usize].group[parity].is_queued() {
            self.commit.members[parity].push(&mut self.streams.slots, n, hook);
            if let Some(s) = self.streams.at_mut(n) {
                s.group_first[parity] = first_seq;
            }
        }
    }

    /// Room was reserved.
    pub(super) fn put_repair(&mut self, repair: &Repair<'_>) -> Result<(), NoRoom> {
        let (builder, body) = self.commit.body();
        builder.repair(body, repair).map_err(|_| NoRoom::Busy)
    }

    /// Declares the stream in the group that fills, unless it is (docs/LOG.md#stream-2).
    pub(super) fn declare(&mut self, n: u32) -> Result<(), NoRoom> {
        let (group, index) = (self.commit.group, self.commit.declared);
        let (fingerprint, incarnation) = (self.config.fingerprint, self.incarnation);
        let Some(s) = self.streams.at_mut(n) else { return Err(NoRoom::Busy) };
        if s.dict_group == group {
            return Ok(());
        }
        let parent: Option<Parent> = if s.own && s.now.top.seq == 0 { self.parent } else { None };
        // A machine stands only at the streams that it writes now: the last one that a log declares
        // so is where it goes on.
        let present = s.key.incarnation == incarnation || has(Bug::OldNameDeclared);
        if parent.is_some() {
            mark!("commit.parent_declared");
        }
        let own_machine = (s.own && present).then_some(fingerprint);
        let decl = StreamDecl { index, key: s.key, own_machine, parent };
        let (builder, body) = self.commit.body();
        builder.stream(body, &decl).map_err(|_| NoRoom::Busy)?;
        (s.dict_group, s.dict_index) = (group, index);
        self.commit.declared += 1;
        Ok(())
    }

    /// Notes acknowledgements in the group that fills; those that find no room wait for the next.
    fn put_receipts(&mut self) {
        while !self.receipts.is_empty() && self.reserve(DECL_MAX_BYTES).is_ok() {
            let Some(n) = self.receipts.pop(&mut self.streams.slots, |s| &mut s.receipt) else { return };
            if self.declare(n).is_err() {
                return;
            }
            let Some(s) = self.streams.at_mut(n) else { continue };
            if core::mem::take(&mut s.lack_changed) && !has(Bug::LackUnwritten) {
                // Before the receipt that reaches over it: what only stands here must not be removed.
                let lack = Lack { index: s.dict_index, range: s.lacks };
                let (builder, body) = self.commit.body();
                let _ = builder.lack(body, &lack);
            }
            let Some(s) = self.streams.at(n) else { continue };
            let Some(peer) = s.acked_by else { continue };
            let receipt = Receipt { peer, index: s.dict_index, seq: s.acked, tag: [0; 8] };
            let (builder, body) = self.commit.body();
            let _ = builder.receipt(body, &receipt);
        }
        if !self.receipts.is_empty() {
            mark!("commit.receipts_wait");
        }
    }

    /// What the disk is to do next, `None` if there is nothing to do or the answer to the last
    /// effect is awaited.
    pub fn poll_effect(&mut self, now: Now) -> Option<Effect<'_>> {
        self.at(now);
        if let Some(request) = self.next_history_read() {
            return Some(Effect::Read(request));
        }
        if self.commit.failed.is_some() {
            return None;
        }
        if let Flight::Written(upto) = self.commit.flight {
            self.commit.flight = Flight::Syncing(upto);
            return Some(Effect::Sync { upto });
        }
        if self.commit.wants_provision() {
            self.commit.provisioning = true;
            return Some(Effect::Provision { segment: self.commit.segment + 1 });
        }
        if self.commit.flight != Flight::None {
            return None;
        }
        if !self.commit.builder.is_empty() || self.commit.flush_receipts {
            self.put_receipts();
            self.commit.flush_receipts = false;
        }
        if self.commit.builder.is_empty() {
            return None;
        }
        let (group, parity) = (self.commit.group, self.commit.parity());
        durable::snapshot(&mut self.streams, &mut self.commit.members[parity], parity);
        match self.commit.seal(&mut self.rng, self.now) {
            Ok((at, range, parity)) => {
                self.commit.flight = Flight::Written(group);
                // The other buffer fills from here on: batches that waited for room go there.
                self.retry_waiting();
                Some(Effect::Append { group, at, bytes: &self.commit.bufs[parity][range] })
            }
            Err(code) => {
                self.fail(code);
                None
            }
        }
    }
}
