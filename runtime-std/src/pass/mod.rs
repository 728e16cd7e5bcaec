//! One pass over a log, in the order in which it was written: without the lock, without writing a
//! byte, beside a running daemon.
//!
//! It holds one frame, and per stream some 200 bytes, whatever the log's size: no index is made and no
//! frame is opened twice. Events of one stream come in the order of their numbers, but for those that
//! were fetched again after damage: these stand where the log took them in. A sealed segment is in the
//! order of its streams.

mod filter;
mod sealed;
mod track;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event};
use ropeway_core::id::{Incarnation, NodeName, StreamKey};
use ropeway_core::log::{
    DataKey, End, MAX_BODY_BYTES, PAGE_BYTES, Place, Record, Run, SegmentScan, Step, Verdict, records,
};

use crate::dir::DataDir;
use crate::error::{Error, Result};
use crate::repair::{Judged, Ledger, Note};
use crate::store::{
    Damage, DirFiles, Files, GroupAt, ReadAhead, SideFile, Unpacker, is_stub, judge_next, keys, list_all, newest_stub,
    place_before,
};

pub use filter::Filter;
use track::Taken;
pub use track::{Hole, Spot, Track};

/// Most streams that are kept track of.
const STREAMS_MAX: usize = 1 << 20;
/// How often a segment is read again that seems damaged and is perhaps being written to: a page that
/// was empty when we came by and the page behind it, read a moment later, look like a hole.
const RESCANS_MAX: usize = 16;

/// An event, as a pass shows it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its stream.
    pub key: &'a StreamKey,
    /// Its number.
    pub seq: u64,
    /// Chain hash of the stream up to it.
    pub chain: &'a Chain,
    /// The event.
    pub event: &'a Event<'a>,
}

/// Whom a pass shows what it finds.
pub trait Visitor {
    /// An event that is wanted. Each is shown once.
    fn event(&mut self, seen: &Seen<'_>) -> ControlFlow<()>;

    /// The place of an event that is not here ([`Event::withheld`](ropeway_core::event::Event::withheld)). The event
    /// itself may follow.
    fn withheld(&mut self, s: &Seen<'_>) -> ControlFlow<()> {
        let _ = s;
        ControlFlow::Continue(())
    }

    /// How far the pass is, in bytes of the segments' files.
    fn progress(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }
}

/// What a pass has seen of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentSeen {
    pub(crate) number: u64,
    pub(crate) len: u64,
    /// The page behind the last valid frame, and the one behind the last that is in use.
    pub(crate) ends: (u64, u64),
    /// Whether what stands between these is lost data.
    pub(crate) end_is_loss: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pass<F = DirFiles> {
    /// Where a data key may have come from since the keys were read.
    keyring: Option<DataDir>,
    files: F,
    ahead: ReadAhead,
    keys: Arc<[(u32, DataKey)]>,
    unpacker: Unpacker,
    seen: Found,
    /// The segment with which the next run begins; those before it do not change any more.
    resume: u64,
}

/// What was found so far.
#[derive(Debug)]
struct Found {
    name: NodeName,
    /// A group that is passed over as if it held nothing.
    without: Option<GroupAt>,
    tracks: BTreeMap<StreamKey, Track>,
    damages: Vec<Damage>,
    segments: Vec<SegmentSeen>,
    groups: BTreeMap<u64, u64>,
    sealed_bytes: BTreeMap<u64, u64>,
    newest: Option<GroupAt>,
    /// Where the header of the last epoch should stand, if only a copy shows it.
    recalled: Option<(u64, u64)>,
    own: Option<Incarnation>,
    ledger: Ledger,
}

impl Pass {
    /// A pass over the log of `dir`. Reads nothing yet.
    ///
    /// # Errors
    /// [`Code::NotInitialised`], [`Code::KeyMissing`] and whatever else keeps the directory from being
    /// read.
    pub fn new(dir: &DataDir) -> Result<Self> {
        let node = dir.node()?;
        let pass = Self::over(DirFiles::new(dir), Arc::from(keys(dir)?), node.name);
        Ok(Self { keyring: Some(dir.clone()), ..pass })
    }
}

impl<F: Files> Pass<F> {
    /// A pass over any [`Files`], the log of the node `name`. `keys`: the data keys with their numbers.
    #[must_use]
    pub fn over(files: F, keys: Arc<[(u32, DataKey)]>, name: NodeName) -> Self {
        let seen = Found {
            name,
            without: None,
            tracks: BTreeMap::new(),
            damages: Vec::new(),
            segments: Vec::new(),
            groups: BTreeMap::new(),
            sealed_bytes: BTreeMap::new(),
            newest: None,
            recalled: None,
            own: None,
            ledger: Ledger::default(),
        };
        let (ahead, unpacker) = (ReadAhead::default(), Unpacker::default());
        Self { keyring: None, files, ahead, keys, unpacker, seen, resume: 0 }
    }

    /// The same, blind for one group.
    pub(crate) fn without(mut self, group: Option<GroupAt>) -> Self {
        self.seen.without = group;
        self
    }

    /// Reads everything that was not read yet; called again, it goes on where the log has grown. Events
    /// of streams that `filter` does not want are counted and not checked.
    ///
    /// # Errors
    /// [`Code::WrongKey`], [`Code::FormatNewer`] and whatever else keeps the log from being read at
    /// all. Damage is no error: see [`Pass::damages`] and [`Pass::streams`].
    pub fn run(&mut self, filter: &Filter, visitor: &mut impl Visitor) -> Result<ControlFlow<()>> {
        let (hot, mut numbers) = list_all(&mut self.files)?;
        let first = self.resume;
        self.seen.forget_from(first);
        let stub = self.begin_with_stub()?;
        let mut gone = stub.map_or(0, |(number, _)| number);
        let behind_stub = gone + 1;
        numbers.retain(|n| *n >= behind_stub);
        let total = numbers.iter().filter(|n| **n >= first).map(|n| self.size(*n)).sum();
        // What is wrong with a segment, as the sealed one before it tells.
        let mut broken: Option<Damage> = match stub.filter(|_| first == 0) {
            Some((number, link)) => judge_next(&mut self.files, number, Some(link), numbers.first().copied()),
            None => None,
        };
        let (mut done, mut expected) = (0, behind_stub);
        for (i, &number) in numbers.iter().enumerate() {
            let missing = std::mem::replace(&mut expected, number + 1)..number;
            if number < first {
                continue;
            }
            let lost =
                |segment| Damage { code: Code::SegmentMissing, segment, from_page: 0, to_page: 0, sealed: false };
            self.seen.damages.extend(missing.map(lost));
            if !(hot.contains(&number) && self.is_hot(number)?) {
                if self.has_gone(number)? {
                    // It was removed since it was listed.
                    gone = self.begin_with_stub()?.map_or(gone, |(number, _)| number);
                }
                if number <= gone {
                    continue;
                }
                let next = numbers.get(i + 1).copied();
                let mut read = self.sealed(number, next, filter, visitor);
                if is_key_missing(&read) && self.has_new_keys()? {
                    read = self.sealed(number, next, filter, visitor);
                }
                if is_key_missing(&read) {
                    let len = self.size(number);
                    self.seen.without_key((number, true), 0, len);
                    read = Ok(Some((len, judge_next(&mut self.files, number, None, next))));
                }
                let Some((len, behind)) = read? else {
                    return Ok(ControlFlow::Break(()));
                };
                self.seen.damages.extend(std::mem::replace(&mut broken, behind));
                (self.resume, done) = (number, done + len);
                visitor.progress(done, total);
                continue;
            }
            // Only the newest two can be in the middle of a write.
            let mut rescans = if i + 2 >= numbers.len() { RESCANS_MAX } else { 0 };
            let mut accepted = Vec::new();
            let mut report = |at: u64, v: &mut _| Visitor::progress(v, done + at, total);
            let mut lost_end = None;
            let len = loop {
                match self.segment(number, filter, visitor, &mut report, (rescans > 0).then_some(&mut accepted))? {
                    Scanned::Stopped => return Ok(ControlFlow::Break(())),
                    Scanned::Again => rescans -= 1,
                    Scanned::NoKey(..) if self.has_new_keys()? => {}
                    Scanned::NoKey(page, len) => {
                        self.seen.without_key((number, false), page, len);
                        break len;
                    }
                    Scanned::End(end, len) => {
                        let is_loss = self.judge(number, numbers.get(i + 1).copied(), &end, len);
                        // The next segment may have been begun after this one was read to its end.
                        if !is_loss || rescans == 0 || lost_end.replace(end) == Some(end) {
                            break len;
                        }
                        rescans -= 1;
                    }
                }
            };
            self.seen.damages.extend(broken.take());
            done += len;
        }
        self.seen.damages.extend(broken);
        // What was removed while it or the segment before it was read looked broken, or left holes.
        gone = self.begin_with_stub()?.map_or(gone, |(number, _)| number.max(gone));
        self.seen.damages.retain(|d| gone == 0 || d.segment > gone || d.segment == gone && !d.is_loss());
        self.seen.ledger.forget_upto(gone);
        if let Some(newest) = self.seen.newest {
            let recalled = self.seen.recalled;
            self.seen.damages.retain(|d| !newest.explains(d, recalled));
        }
        self.compare_seals();
        // A next one may have been made already while this one still fills.
        self.resume = self.seen.newest.map_or(self.resume, |at| at.segment);
        visitor.progress(total, total);
        Ok(ControlFlow::Continue(()))
    }

    /// Bytes of a segment's file, for the progress.
    fn size(&mut self, number: u64) -> u64 {
        let files = &mut self.files;
        files
            .len(number)
            .or_else(|_| files.side_len(SideFile::Sealed(number)).map(Option::unwrap_or_default))
            .unwrap_or(0)
    }

    /// Takes note of what was removed from the log; the last segment that was, and what the next links to.
    fn begin_with_stub(&mut self) -> Result<Option<(u64, [u8; 16])>> {
        let Some(stub) = newest_stub(&mut self.files, &self.keys, self.seen.name)? else { return Ok(None) };
        if stub.rotten {
            let to_page = stub.bytes.div_ceil(PAGE_BYTES as u64);
            let damage = Damage { code: Code::Rotten, segment: stub.number, from_page: 0, to_page, sealed: true };
            self.seen.damages.retain(|d| *d != damage);
            self.seen.damages.push(damage);
        }
        for s in stub.recovered.states().filter(|s| s.have.0 > 0) {
            let track = self.seen.tracks.entry(s.key).or_insert_with(|| Track::new(&s.key));
            track.acked = track.acked.max(s.acked.map_or(0, |a| a.0));
            s.floor.iter().for_each(|floor| track.expire(floor.0, floor.1));
        }
        self.seen.own = self.seen.own.or(stub.log.own.map(|(incarnation, _)| incarnation));
        Ok(Some((stub.number, stub.log.link)))
    }

    /// Whether a sealed segment is gone, or a stub stands in its place.
    fn has_gone(&mut self, number: u64) -> Result<bool> {
        Ok(self.files.side_len(SideFile::Sealed(number))?.is_none() || is_stub(&mut self.files, number))
    }

    /// Whether a segment is still hot: it may have been sealed and removed since it was listed.
    fn is_hot(&mut self, number: u64) -> Result<bool> {
        match self.ahead.open(&mut self.files, number) {
            Ok(_) => Ok(true),
            Err(_) if self.files.side_len(SideFile::Sealed(number))?.is_some() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Scans one hot segment. With `accepted`, damage that is not in it is put there, and the segment is
    /// to be scanned again: what was shown is not shown twice.
    fn segment<V: Visitor>(
        &mut self,
        number: u64,
        filter: &Filter,
        visitor: &mut V,
        report: &mut impl FnMut(u64, &mut V),
        mut accepted: Option<&mut Vec<(u64, u64)>>,
    ) -> Result<Scanned> {
        self.seen.forget_from(number);
        let len = self.ahead.open(&mut self.files, number)?;
        let mut scan = SegmentScan::new(&self.keys, number, len, MAX_BODY_BYTES)?;
        let (mut began_epoch, mut reported) = (None, 0);
        loop {
            let wanted = scan.poll_want();
            let step = match wanted {
                None => scan.feed(&mut []),
                Some(want) => {
                    if want.offset >= reported + (1 << 20) {
                        reported = want.offset;
                        report(reported, visitor);
                    }
                    match self.ahead.read(&mut self.files, want.offset, want.len) {
                        Ok(bytes) => scan.feed(bytes),
                        Err(e) => {
                            log::warn!("{e}");
                            scan.unreadable()
                        }
                    }
                }
            };
            let damage = |code, from_page, to_page| Damage { code, segment: number, from_page, to_page, sealed: false };
            match step {
                Step::NeedMore => {}
                Step::Epoch { header, repaired, recalled, .. } => {
                    let page = header.start.page;
                    self.seen.recalled = recalled.then_some((number, page));
                    began_epoch = Some(page + 1);
                    if repaired {
                        self.seen.damages.push(damage(Code::Rotten, page, page + 1));
                    }
                }
                Step::Group { page, pages, body, crc_rotten } => {
                    *self.seen.groups.entry(number).or_default() += 1;
                    let from_page = page - u64::from(began_epoch == Some(page));
                    let at = GroupAt { segment: number, from_page, to_page: page + pages };
                    self.seen.newest = Some(at);
                    if self.seen.without == Some(at) {
                        continue;
                    }
                    match self.seen.group(body, (number, page), filter, visitor) {
                        Ok(ControlFlow::Continue(())) => {}
                        Ok(ControlFlow::Break(())) => return Ok(Scanned::Stopped),
                        Err(code @ (Code::Limit | Code::FormatNewer)) => return Err(code.into()),
                        Err(code) => self.seen.damages.push(damage(code, page, page + pages)),
                    }
                    if crc_rotten {
                        self.seen.damages.push(damage(Code::Rotten, page, page + pages));
                    }
                }
                Step::Damaged { from_page, to_page, verdict } => {
                    if let Some(accepted) = accepted.as_mut().filter(|a| !a.contains(&(from_page, to_page))) {
                        accepted.push((from_page, to_page));
                        return Ok(Scanned::Again);
                    }
                    let code = verdict.code().unwrap_or(Code::Corrupt);
                    self.seen.damages.push(damage(code, from_page, to_page));
                }
                Step::End(end) => return Ok(Scanned::End(end, len)),
                Step::Fault(Code::KeyMissing) => {
                    return Ok(Scanned::NoKey(wanted.map_or(0, |w| w.offset / PAGE_BYTES as u64), len));
                }
                Step::Fault(code) => {
                    return Err(Error::at(code, &self.files.describe(number), "nothing was changed"));
                }
            }
        }
    }

    /// Whether the keyring has got keys since it was read, by a `rekey` meanwhile. They are in use then.
    fn has_new_keys(&mut self) -> Result<bool> {
        let Some(dir) = &self.keyring else { return Ok(false) };
        let now = keys(dir)?;
        let more = now.len() > self.keys.len();
        self.keys = Arc::from(now);
        Ok(more)
    }

    /// What the end of a segment means (docs/LOG.md#recovery-3); true if it is lost data.
    fn judge(&mut self, number: u64, next: Option<u64>, end: &End, len: u64) -> bool {
        let place = place_before(&mut self.files, number, next, end.link);
        let beyond = self.seen.tracks.values().any(|t| t.acked > t.top);
        let verdict = end.verdict(place, place == Place::Last && beyond);
        let mut end_is_loss = false;
        if let Some(code) = verdict.code() {
            end_is_loss = verdict != Verdict::TornTail;
            let (from_page, to_page) = (end.from_page, end.to_page);
            self.seen.damages.push(Damage { code, segment: number, from_page, to_page, sealed: false });
        }
        self.seen.segments.push(SegmentSeen { number, len, ends: (end.from_page, end.to_page), end_is_loss });
        end_is_loss
    }

    /// All streams that were met, by their keys.
    #[must_use]
    pub fn streams(&self) -> &BTreeMap<StreamKey, Track> {
        &self.seen.tracks
    }

    /// Everything that is not as it should be, in the log's order.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.seen.damages
    }

    /// What became of each damage, and of those that the log tells of though their pages are gone.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.seen.ledger.judge(&self.seen.damages)
    }

    /// The streams that a damage has cost events, with the first and last of them, as far as later
    /// events show it. Several damages between the same two events share what is missing there.
    pub fn hit_by<'a>(&'a self, damage: &Damage) -> impl Iterator<Item = (&'a StreamKey, u64, u64)> + use<'a, F> {
        let at = (damage.segment, damage.from_page);
        let hit = move |h: &&Hole| h.behind < at && at < h.before;
        let streams = self.seen.tracks.iter();
        streams.flat_map(move |(key, t)| t.holes.iter().filter(hit).map(move |h| (key, h.from, h.to)))
    }

    /// Different events that were read.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.seen.tracks.values().map(|t| t.events).sum()
    }

    /// Commit groups that were read.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.seen.groups.values().sum()
    }

    /// Bytes of the segment files.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.seen.segments.iter().map(|s| s.len).sum::<u64>() + self.seen.sealed_bytes.values().sum::<u64>()
    }

    /// The incarnation in which this node has written last.
    #[must_use]
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.seen.own
    }

    pub(crate) fn segments(&self) -> &[SegmentSeen] {
        &self.seen.segments
    }

    pub(crate) fn newest(&self) -> Option<GroupAt> {
        self.seen.newest
    }
}

fn is_key_missing<T>(read: &Result<T>) -> bool {
    matches!(read, Err(e) if e.code == Code::KeyMissing)
}

enum Scanned {
    End(End, u64),
    /// From this page to the end of the file, whose length is said, it stands under a key that is not here.
    NoKey(u64, u64),
    Again,
    Stopped,
}

impl Found {
    /// Forgets what was said of segments from `number` on, not what was shown of them.
    fn forget_from(&mut self, number: u64) {
        self.damages.retain(|d| d.segment < number || d.code == Code::SegmentMissing && d.segment + 1 == number);
        self.segments.retain(|s| s.number < number);
        self.groups.retain(|n, _| *n < number);
        self.sealed_bytes.retain(|n, _| *n < number);
    }

    /// The rest of a segment stands under a key that is not here; what is in others can be read.
    fn without_key(&mut self, (segment, sealed): (u64, bool), from_page: u64, len: u64) {
        let to_page = len.div_ceil(PAGE_BYTES as u64);
        self.damages.push(Damage { code: Code::KeyMissing, segment, from_page, to_page, sealed });
    }

    fn group(
        &mut self,
        body: &[u8],
        spot: Spot,
        filter: &Filter,
        visitor: &mut impl Visitor,
    ) -> std::result::Result<ControlFlow<()>, Code> {
        let mut dict: Vec<StreamKey> = Vec::new();
        let mut consistent = Ok(());
        for record in records(body) {
            match record? {
                Record::Stream(decl) => {
                    if decl.index as usize != dict.len() {
                        return Err(Code::Corrupt);
                    }
                    if decl.own_machine.is_some() && decl.key.node == self.name {
                        self.own = Some(decl.key.incarnation);
                    }
                    dict.push(decl.key);
                }
                Record::Events(run) => {
                    let key = dict.get(run.index as usize).ok_or(Code::Corrupt)?;
                    if self.tracks.len() >= STREAMS_MAX && !self.tracks.contains_key(key) {
                        return Err(Code::Limit);
                    }
                    let track = self.tracks.entry(*key).or_insert_with(|| Track::new(key));
                    if !track.brings_news(run.base_seq, run.last_seq()) {
                        continue;
                    }
                    if !filter.wants_stream(key) {
                        for seq in run.base_seq..=run.last_seq() {
                            match run.withheld {
                                true => track.take_place(seq, spot, None),
                                false => track.take(seq, spot, None),
                            };
                        }
                        continue;
                    }
                    match show(key, &run, track, spot, filter, visitor) {
                        ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
                        ControlFlow::Continue(true) => {}
                        ControlFlow::Continue(false) => consistent = Err(Code::Corrupt),
                    }
                }
                Record::Expired(e) => {
                    let key = dict.get(e.index as usize).ok_or(Code::Corrupt)?;
                    self.tracks.entry(*key).or_insert_with(|| Track::new(key)).expire(e.seq, e.chain);
                }
                Record::Lack(lack) => {
                    let key = dict.get(lack.index as usize).ok_or(Code::Corrupt)?;
                    self.tracks.entry(*key).or_insert_with(|| Track::new(key)).lacks = lack.range;
                }
                Record::Repair(repair) => self.ledger.take(Note::from(&repair)),
                Record::Receipt(receipt) => {
                    let key = dict.get(receipt.index as usize).ok_or(Code::Corrupt)?;
                    if let Some(track) = self.tracks.get_mut(key) {
                        track.acked = track.acked.max(receipt.seq);
                    }
                }
            }
        }
        consistent.map(|()| ControlFlow::Continue(()))
    }
}

/// Shows what is wanted of a run; false if it does not continue what was there.
fn show(
    key: &StreamKey,
    run: &Run<'_>,
    track: &mut Track,
    spot: Spot,
    filter: &Filter,
    visitor: &mut impl Visitor,
) -> ControlFlow<(), bool> {
    let (mut chain, mut chained) = (run.prev_chain, true);
    for (event, seq) in run.events().zip(run.base_seq..) {
        let before = chain;
        chain = chain.then(&event);
        let link = Some((before, chain));
        match if run.withheld { track.take_place(seq, spot, link) } else { track.take(seq, spot, link) } {
            Taken::Again => continue,
            Taken::New => {}
            Taken::Unchained => chained = false,
        }
        if filter.wants(seq, &event) {
            let seen = Seen { key, seq, chain: &chain, event: &event };
            match if run.withheld { visitor.withheld(&seen) } else { visitor.event(&seen) } {
                ControlFlow::Break(()) => return ControlFlow::Break(()),
                ControlFlow::Continue(()) => {}
            }
        }
    }
    ControlFlow::Continue(chained)
}

#[cfg(test)]
mod tests;
