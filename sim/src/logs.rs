//! What a runtime does with the log beside the node: recovery at the start, an index of runs, and
//! reading events for sessions.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, RECORD_HEAD_BYTES, put_record};
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::log::{
    Cipher, DataKey, Header, PAGE_BYTES, Place, Record, SegmentScan, Step, Verdict, frame_pages, records,
};
use ropeway_core::recovery::{LogTail, Recovered, RunAt, StreamMemory};
use ropeway_core::varint::Writer;

use crate::disk::Disk;

/// Where runs of events stand.
#[derive(Debug, Default)]
pub(crate) struct Index {
    epochs: Vec<(u64, u64, Header)>,
    runs: BTreeMap<u32, Vec<Place1>>,
}

#[derive(Clone, Copy, Debug)]
struct Place1 {
    first: u64,
    last: u64,
    segment: u64,
    page: u64,
    pages: u64,
}

/// What opening a log gave.
#[derive(Debug)]
pub(crate) struct OpenedLog {
    pub(crate) recovered: Recovered<'static>,
    pub(crate) index: Index,
    /// Anything else than clean ends.
    pub(crate) findings: Vec<Verdict>,
}

/// Number of the data key.
pub(crate) const KEY_ID: u32 = 1;

/// Reads the whole log.
pub(crate) fn open(disk: &Disk, name: NodeName, key: [u8; 32], limits: &Limits) -> Result<OpenedLog, Code> {
    let keys = [(KEY_ID, DataKey::new(key))];
    let mut recovered = Recovered::new(name, StreamMemory::owned(limits.streams));
    let (mut index, mut findings) = (Index::default(), Vec::new());
    let mut tail = LogTail::default();
    for (segment, len) in disk.segments() {
        let mut scan = SegmentScan::new(&keys, segment, len, limits.group_bytes)?;
        loop {
            let mut bytes = scan.poll_want().map_or(Vec::new(), |w| disk.read(segment, w.offset, w.len));
            match scan.feed(&mut bytes) {
                Step::NeedMore => {}
                Step::Epoch { header, .. } => index.epochs.push((segment, header.start.page, header)),
                Step::Group { page, pages, body, .. } => {
                    match recovered.group(body, |run| index.add(run, segment, page, pages)) {
                        Err(Code::Corrupt) | Ok(()) => {}
                        Err(code) => return Err(code),
                    }
                }
                Step::Damaged { verdict, .. } => findings.push(verdict),
                Step::End(end) => {
                    let verdict = end.verdict(Place::Last, recovered.receipt_beyond_log());
                    let clean = verdict == Verdict::CleanEnd;
                    let empty = !index.epochs.iter().any(|e| e.0 == segment);
                    // A segment without a header says nothing about what precedes it.
                    let link = if empty { tail.link } else { end.link };
                    if !clean {
                        findings.push(verdict);
                    }
                    tail = LogTail { segment, next_page: end.from_page, clean, link };
                    break;
                }
                Step::Fault(code) => return Err(code),
            }
        }
    }
    Ok(OpenedLog { recovered: recovered.ending_at(tail), index, findings })
}

impl Index {
    pub(crate) fn add(&mut self, run: RunAt, segment: u64, page: u64, pages: u64) {
        let at = Place1 { first: run.first_seq, last: run.last_seq, segment, page, pages };
        self.runs.entry(run.stream).or_default().push(at);
    }

    /// Takes note of a write: header if there is one, runs. Returns page and salt of the frame.
    pub(crate) fn written(&mut self, segment: u64, offset: u64, bytes: &[u8], runs: &[RunAt]) -> (u64, [u8; 32]) {
        let mut page = offset / PAGE_BYTES as u64;
        let mut pages = (bytes.len() / PAGE_BYTES) as u64;
        if let Ok(header) = Header::parse(bytes) {
            self.epochs.push((segment, page, header));
            page += 1;
            pages -= 1;
        }
        for run in runs {
            self.add(*run, segment, page, pages);
        }
        (page, self.epochs.last().map_or([0; 32], |e| e.2.start.salt))
    }

    fn body(&self, disk: &Disk, key: [u8; 32], at: &Place1) -> Result<Vec<u8>, Code> {
        let epoch = self.epochs.iter().filter(|e| e.0 == at.segment && e.1 < at.page).max_by_key(|e| e.1);
        let cipher = Cipher::new(&epoch.ok_or(Code::Corrupt)?.2, &DataKey::new(key))?;
        let mut bytes = disk.read(at.segment, at.page * PAGE_BYTES as u64, at.pages as usize * PAGE_BYTES);
        let opened = cipher.open(at.page, &mut bytes).map_err(|f| f.code())?;
        debug_assert!(frame_pages(opened.body.len()) <= at.pages);
        Ok(bytes[opened.body].to_vec())
    }

    /// Events of one stream from `from_seq` on: about `want_bytes` of payload, at least one event,
    /// none beyond `upto_seq`. The chain hash before the first comes with them.
    pub(crate) fn read(
        &self,
        disk: &Disk,
        key: [u8; 32],
        (stream, stream_key): (u32, &StreamKey),
        (from_seq, upto_seq): (u64, u64),
        want_bytes: usize,
    ) -> Result<(Chain, Vec<u8>), Code> {
        let (mut out, mut before, mut seq, mut payload) = (Vec::new(), None, from_seq, 0);
        let runs = self.runs.get(&stream).ok_or(Code::Corrupt)?;
        while seq <= upto_seq && (seq == from_seq || payload < want_bytes) {
            let holds = |r: &&Place1| r.first <= seq && seq <= r.last;
            let body = runs.iter().rev().filter(holds).find_map(|r| self.body(disk, key, r).ok());
            let Some(body) = body else {
                break;
            };
            let begun = seq;
            let mut dict = Vec::new();
            for record in records(&body) {
                match record? {
                    Record::Stream(d) => dict.push(d.key),
                    Record::Receipt(_) => {}
                    Record::Events(run) => {
                        let ours = dict.get(run.index as usize) == Some(stream_key);
                        if !ours || run.base_seq > seq || run.last_seq() < seq {
                            continue;
                        }
                        let mut chain = run.prev_chain;
                        for (n, e) in (run.base_seq..).zip(run.events()) {
                            if n == seq && n <= upto_seq && (n == from_seq || payload < want_bytes) {
                                before.get_or_insert(chain);
                                let at = out.len();
                                out.resize(at + RECORD_HEAD_BYTES + e.payload.len(), 0);
                                put_record(&mut Writer::new(&mut out[at..]), &e).map_err(|_| Code::Corrupt)?;
                                payload += e.payload.len();
                                seq += 1;
                            }
                            chain = chain.then(&e);
                        }
                    }
                }
            }
            if seq == begun {
                break;
            }
        }
        Ok((before.ok_or(Code::Corrupt)?, out))
    }
}
