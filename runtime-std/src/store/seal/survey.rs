//! The first look at a segment that is to be sealed: what stands where, and whether all of it is sound.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, ChainTag};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::log::sealed::{SEALED_HEADER_BYTES, SealedHeader};
use ropeway_core::log::{
    FrameFault, Header, MAX_BODY_BYTES, PAGE_BYTES, Parent, Record, StreamDecl, frame_pages, link_digest, records,
};

use super::super::SideFile;
use super::super::files::{read_full, read_side_full};
use super::super::reader::{Hot, Reader};
use super::super::recover::first_link;
use super::{Files, unfit};
use crate::error::Result;
use crate::repair::{Ledger, Note};

/// Consecutive events of one stream in one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct RunAt {
    stream: u32,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) page: u64,
    pub(super) epoch: u64,
    /// What is known of events that are not here.
    withheld: bool,
}

/// A stream that occurs.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamAt {
    pub(super) key: StreamKey,
    own_machine: Option<u64>,
    pub(super) parent: Option<Parent>,
}

/// An acknowledgement, the newest of its stream and peer.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReceiptAt {
    pub(super) stream: u32,
    pub(super) peer: NodeName,
    pub(super) seq: u64,
    pub(super) tag: ChainTag,
}

/// What was gone at its source.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpiredAt {
    pub(super) stream: u32,
    pub(super) seq: u64,
    pub(super) chain: Chain,
}

/// Which events a hub lacks that are here, as was noted last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LackAt {
    pub(super) stream: u32,
    pub(super) range: Option<(u64, u64)>,
}

/// See the [module](self). About 40 bytes for each run, and nothing of the events.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) segment: u64,
    pub(super) streams: Vec<StreamAt>,
    numbers: BTreeMap<StreamKey, u32>,
    /// The streams in the order of their keys.
    pub(super) order: Vec<u32>,
    runs: Vec<RunAt>,
    pub(super) receipts: Vec<ReceiptAt>,
    pub(super) expired: Vec<ExpiredAt>,
    pub(super) lacks: Vec<LackAt>,
    /// What it tells of damages.
    pub(super) notes: Ledger,
    pub(super) last_own: Option<u32>,
    pub(super) groups: u64,
    pub(super) hot_bytes: u64,
    pub(super) base_hlc: Hlc,
    pub(super) key_id: u32,
    pub(super) prev: [u8; 16],
    link: [u8; 16],
    header: Option<Header>,
    content: blake3::Hasher,
    page: u64,
    epoch: u64,
    /// What stood right before this page is lost, and told of.
    behind_loss: bool,
    /// The first header is lost.
    lost_start: bool,
}

impl Survey {
    pub(super) fn new(segment: u64) -> Self {
        Self {
            segment,
            streams: Vec::new(),
            numbers: BTreeMap::new(),
            order: Vec::new(),
            runs: Vec::new(),
            receipts: Vec::new(),
            expired: Vec::new(),
            lacks: Vec::new(),
            notes: Ledger::default(),
            last_own: None,
            groups: 0,
            hot_bytes: 0,
            base_hlc: Hlc::ZERO,
            key_id: 0,
            prev: [0; 16],
            link: [0; 16],
            header: None,
            content: blake3::Hasher::new(),
            page: 0,
            epoch: 0,
            behind_loss: false,
            lost_start: false,
        }
    }

    /// What the next segment must link to if everything was read.
    pub(super) fn link(&self) -> [u8; 16] {
        self.link
    }

    /// Digest of the groups.
    pub(super) fn content(&self) -> [u8; 32] {
        *self.content.finalize().as_bytes()
    }

    /// How the stream is declared here.
    pub(super) fn decl(&self, stream: u32, parent: Option<Parent>) -> StreamDecl {
        let s = &self.streams[stream as usize];
        StreamDecl { index: 0, key: s.key, own_machine: s.own_machine, parent }
    }

    /// The runs of a stream, sorted.
    pub(super) fn runs_of(&self, stream: u32) -> &[RunAt] {
        let start = self.runs.partition_point(|r| r.stream < stream);
        let end = self.runs.partition_point(|r| r.stream <= stream);
        &self.runs[start..end]
    }

    /// Looks at about `bytes` more; true at the end.
    /// `told`: damages that the log tells of; what they have left is all that is kept.
    pub(super) fn step<F: Files>(&mut self, reader: &mut Reader<F>, told: &Ledger, bytes: u64) -> Result<bool> {
        let upto = self.page + bytes.div_ceil(PAGE_BYTES as u64);
        while self.page < upto {
            // What a note calls damaged may be readable again: a note never hides what is there.
            let found = match reader.hot(self.segment, self.page, &mut self.epoch) {
                Ok(Hot::Nothing(_)) if self.pass_loss(told, false) => continue,
                // What the device fails to read may be back one day, unless it is held elsewhere by now.
                Err(e) if self.pass_loss(told, e.code == Code::Io) => continue,
                other => other?,
            };
            match found {
                Hot::Header(header) => {
                    if self.header.is_none() {
                        self.prev = header.start.prev;
                        self.base_hlc = header.start.base_hlc;
                    } else if header.start.prev != self.link && !self.behind_loss {
                        return Err(unfit(self.segment, "something is missing before one of its headers"));
                    }
                    self.key_id = header.start.key_id;
                    self.link = link_digest(&header, &[0; 16]);
                    self.header = Some(header);
                    self.behind_loss = false;
                    self.page += 1;
                }
                Hot::Group { body, pages, tag } => {
                    let Some(header) = &self.header else { return Err(unfit(self.segment, "it has no header")) };
                    self.link = link_digest(header, &tag);
                    self.content.update(&tag);
                    self.behind_loss = false;
                    // The borrow of the body ends before the next read.
                    let body = body.to_vec();
                    self.take(&body)?;
                    self.page += pages;
                }
                Hot::Nothing(fault) => {
                    self.end(reader, fault)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Passes over a page of damage that the log tells of; false if there is none here, or no page of it.
    /// `repaired`: only if all of it is held again.
    fn pass_loss(&mut self, told: &Ledger, repaired: bool) -> bool {
        let Some(end) = told.hot_damage_at(self.segment, self.page, repaired) else { return false };
        self.behind_loss = true;
        if self.page >= end {
            return false;
        }
        self.page += 1;
        if self.header.is_none() {
            // Only a header can follow.
            (self.lost_start, self.epoch) = (true, self.page);
        }
        true
    }

    /// Where the first header or the end is lost, and told of, the neighbours say what they were linked with.
    pub(super) fn bridge_losses<F: Files>(&mut self, files: &mut F) {
        if self.lost_start {
            let mut head = [0; SEALED_HEADER_BYTES];
            let before = SideFile::Sealed(self.segment - 1);
            let link = read_side_full(files, before, 0, &mut head).ok().and_then(|_| SealedHeader::parse(&head).ok());
            self.prev = link.map_or([0; 16], |(h, _)| h.start.link);
        }
        if self.behind_loss {
            self.link = first_link(files, self.segment + 1).unwrap_or(self.link);
        }
    }

    fn take(&mut self, body: &[u8]) -> Result<()> {
        self.groups += 1;
        let mut dict: Vec<u32> = Vec::new();
        for record in records(body) {
            match record? {
                Record::Stream(decl) => {
                    let next = self.streams.len() as u32;
                    let stream = *self.numbers.entry(decl.key).or_insert(next);
                    if stream == next {
                        self.streams.push(StreamAt { key: decl.key, own_machine: None, parent: None });
                    }
                    let s = &mut self.streams[stream as usize];
                    s.parent = s.parent.or(decl.parent);
                    if decl.own_machine.is_some() {
                        s.own_machine = decl.own_machine;
                        self.last_own = Some(stream);
                    }
                    dict.push(stream);
                }
                Record::Events(run) => {
                    let stream = *dict.get(run.index as usize).ok_or_else(|| unfit(self.segment, "a bad group"))?;
                    let (page, epoch, last_seq, withheld) = (self.page, self.epoch, run.last_seq(), run.withheld);
                    let joins = |r: &&mut RunAt| {
                        let onward = r.last_seq.checked_add(1) == Some(run.base_seq);
                        r.stream == stream && r.page == page && r.withheld == withheld && onward
                    };
                    match self.runs.last_mut().filter(joins) {
                        Some(r) => r.last_seq = last_seq,
                        None => {
                            self.runs.push(RunAt { stream, first_seq: run.base_seq, last_seq, page, epoch, withheld });
                        }
                    }
                }
                Record::Expired(e) => {
                    let stream = *dict.get(e.index as usize).ok_or_else(|| unfit(self.segment, "a bad group"))?;
                    self.expired.push(ExpiredAt { stream, seq: e.seq, chain: e.chain });
                }
                Record::Lack(lack) => {
                    let stream = *dict.get(lack.index as usize).ok_or_else(|| unfit(self.segment, "a bad group"))?;
                    self.lacks.retain(|old| old.stream != stream);
                    self.lacks.push(LackAt { stream, range: lack.range });
                }
                Record::Repair(repair) => self.notes.take(Note::from(&repair)),
                Record::Receipt(r) => {
                    let stream = *dict.get(r.index as usize).ok_or_else(|| unfit(self.segment, "a bad group"))?;
                    let mut new = ReceiptAt { stream, peer: r.peer, seq: r.seq, tag: r.tag };
                    // What a later one of the same peer covers need not be kept.
                    if let Some(at) = self.receipts.iter().position(|o| (o.stream, o.peer) == (stream, r.peer)) {
                        let old = self.receipts.remove(at);
                        if old.seq > new.seq {
                            (new.seq, new.tag) = (old.seq, old.tag);
                        }
                    }
                    self.receipts.push(new);
                }
            }
        }
        Ok(())
    }

    /// Leaves out the places of events that came after all, or were here before: the event counts.
    fn drop_filled_places(&mut self) {
        let (places, mut runs): (Vec<RunAt>, Vec<RunAt>) = self.runs.drain(..).partition(|r| r.withheld);
        if !places.is_empty() {
            let mut real: Vec<(u32, u64, u64)> = runs.iter().map(|r| (r.stream, r.first_seq, r.last_seq)).collect();
            real.sort_unstable();
            // What reaches furthest of all that begin there or before.
            for at in 1..real.len() {
                if real[at].0 == real[at - 1].0 {
                    real[at].2 = real[at].2.max(real[at - 1].2);
                }
            }
            for place in places {
                for seq in place.first_seq..=place.last_seq {
                    let upto = real.partition_point(|r| (r.0, r.1) <= (place.stream, seq));
                    let before = upto.checked_sub(1).map(|at| real[at]);
                    if before.is_none_or(|r| r.0 != place.stream || r.2 < seq) {
                        match runs.last_mut().filter(|r| r.withheld && r.page == place.page && r.last_seq + 1 == seq) {
                            Some(last) if last.stream == place.stream => last.last_seq = seq,
                            _ => runs.push(RunAt { first_seq: seq, last_seq: seq, ..place }),
                        }
                    }
                }
            }
        }
        self.runs = runs;
    }

    /// Looks behind the last group: a torn write may stand there, and nothing else.
    fn end<F: Files>(&mut self, reader: &mut Reader<F>, fault: Option<FrameFault>) -> Result<()> {
        if self.header.is_none() || fault == Some(FrameFault::Tampered) {
            return Err(unfit(self.segment, "it is damaged"));
        }
        self.hot_bytes = self.page * PAGE_BYTES as u64;
        let (files, _, _) = reader.parts();
        let (len, mut used_to) = (files.len(self.segment)?, self.hot_bytes);
        let (mut at, mut piece) = (self.hot_bytes, vec![0; 64 << 10]);
        while at < len {
            let n = read_full(files, self.segment, at, &mut piece, 1)?;
            if n == 0 {
                break;
            }
            if let Some(last) = piece[..n].iter().rposition(|b| *b != 0 && *b != 0xff) {
                used_to = at + last as u64 + 1;
            }
            at += n as u64;
        }
        let torn_pages = (used_to - self.hot_bytes).div_ceil(PAGE_BYTES as u64);
        if self.behind_loss && torn_pages > 0 {
            // Nobody can tell where it ended: what cannot be read here may have events behind it.
            return Err(unfit(self.segment, "there is more behind what is lost"));
        }
        if torn_pages > frame_pages(MAX_BODY_BYTES) + 1 {
            return Err(unfit(self.segment, "more is unreadable at its end than one torn write"));
        }
        self.drop_filled_places();
        self.runs.sort_by_key(|r| (r.stream, r.first_seq, r.page));
        self.order = self.numbers.values().copied().collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_event_and_its_place_the_event_is_kept_whichever_came_first() {
        let mut survey = Survey::new(1);
        let mut add = |stream, first_seq, last_seq, page, withheld| {
            survey.runs.push(RunAt { stream, first_seq, last_seq, page, epoch: 0, withheld });
        };
        // Event 5 came after all; 6 and 12 never did; 10 and 11 were here before; the other stream has nothing to do with it.
        add(0, 1, 4, 1, false);
        add(0, 5, 6, 1, true);
        add(0, 7, 11, 1, false);
        add(0, 5, 5, 2, false);
        add(0, 10, 12, 3, true);
        add(1, 5, 6, 3, true);
        survey.drop_filled_places();
        let places: Vec<_> = survey.runs.iter().filter(|r| r.withheld).collect();
        let places: Vec<_> = places.into_iter().map(|r| (r.stream, r.first_seq, r.last_seq, r.page)).collect();
        assert_eq!(places, [(0, 6, 6, 1), (0, 12, 12, 3), (1, 5, 6, 3)]);
        assert_eq!(survey.runs.len(), 6);
    }
}
