//! A node to embed: open, append, read, sync. One thread, nothing in the background.

use std::time::{Duration, Instant};

use ropeway_core::accept::{Acceptance, AcceptanceRef};
use ropeway_core::code::Code;
use ropeway_core::event::{Event, Records, put_record};
use ropeway_core::id::{Lane, StreamKey};
use ropeway_core::limits::{Config, DIGEST_FROM, Limits, Timing};
use ropeway_core::log::MAX_BODY_BYTES;
use ropeway_core::node::{AppendError, Effect, Memory, Node, ReadFault, ReadRequest, Setup, Transmit};
use ropeway_core::policy::{Policy, Principal, Role, authorize};
use ropeway_core::recovery::Recovered;
use ropeway_core::streams::FrontierEntry;
use ropeway_core::time::Now;
use ropeway_core::varint::Writer;

use crate::dir::{DataDir, DirLock, NodeFile};
use crate::error::{Error, IoContext, Result};
use crate::fetch::Asks;
use crate::identity::NodeIdentity;
use crate::machine::{SystemClock, fingerprint, random};
use crate::repair::{Book, Fate, Judged, set_aside};
use crate::retain::{Gone, Keeper, Plan, Terms, judge_all, remove_some};
use crate::sample::Sample;
use crate::scrub::{PIECE_BYTES, Progress, Scrubbed};
use crate::store::{Damage, DirFiles, Files, Sealing, Segments, Stop, Store, recover_to_write};
use crate::tls::TIME_FLOOR_S;
use crate::zstd_codec::codecs;

/// How to open a node.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Sizes.
    pub limits: Limits,
    /// Durations.
    pub timing: Timing,
    /// What clinics may read here.
    pub policy: Policy,
    /// Granularity of time stamps, in milliseconds. A finer one costs bytes on the wire: the last three digits of a
    /// stamp are noise.
    pub hlc_tick_ms: u64,
    /// States of [`ModelCodec`](crate::model_codec::ModelCodec), of about 3 MB each, that there may be at once; 0: it
    /// is neither used nor offered.
    pub model_states: usize,
    /// Payload of the largest event that is taken from a peer, in bytes; 0: no other bound than that of `limits`. A larger
    /// one is refused, told at both ends, and stops nothing behind it.
    pub accept_bytes: usize,
}

/// A stream in each direction.
const MODEL_STATES: usize = 2;

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::clinic(),
            timing: Timing::default(),
            policy: Policy::Own,
            hlc_tick_ms: 1000,
            model_states: MODEL_STATES,
            accept_bytes: 0,
        }
    }
}

/// After so many bytes written, a step of sealing is done.
const SEAL_STEP_BYTES: usize = 32 << 10;

/// How far a peer's clock may lead ours and still move our stamps.
const HLC_BOUND_MS: u64 = 10 * 60 * 1000;

/// A node with its log, opened for writing. It holds the directory's lock while it lives.
///
/// ```no_run
/// use ropeway_core::id::Lane;
/// use ropeway_std::{DataDir, Replica};
///
/// let mut node = Replica::open(DataDir::new("/var/lib/ropeway/clinic_a"), Default::default())?;
/// node.append(Lane::Normal, 0, br#"{"patient":"BT-0042","event":"registration"}"#)?;
/// node.commit()?; // durable from here on
/// node.read(1, |stream, seq, event| println!("{stream} {seq}: {} bytes", event.payload.len()))?;
/// let report = node.sync("192.168.1.10:7700", &Default::default(), |_| ())?;
/// println!("{} events sent, {} acknowledged", report.sent, report.acknowledged);
/// # Ok::<(), ropeway_std::Error>(())
/// ```
#[derive(Debug)]
pub struct Replica {
    pub(crate) dir: DataDir,
    file: NodeFile,
    _lock: DirLock,
    pub(crate) clock: SystemClock,
    pub(crate) node: Node<'static>,
    pub(crate) store: Store,
    keeper: Keeper,
    damages: Vec<Damage>,
    pub(crate) book: Book,
    pub(crate) asks: Asks,
    records: Vec<u8>,
}

impl Replica {
    /// Opens the node of `dir`: takes the lock, reads the log, sets a torn tail aside.
    ///
    /// # Errors
    /// [`Code::Locked`] if another process has it open; [`Code::NotInitialised`],
    /// [`Code::WrongKey`], [`Code::FormatNewer`], ...: then not a byte was changed.
    pub fn open(dir: DataDir, options: Options) -> Result<Replica> {
        let file = dir.node()?;
        let lock = DirLock::acquire(&dir)?;
        // Once there is a certificate it says what the node is; before, it can write all the same.
        let file = identity(&dir).map_or(file, |(_, signed)| signed);
        let Prepared { setup, recovered, damages, mut store, book } = prepare(&dir, &file, &options)?;
        let clock = SystemClock::default();
        let mut node = Node::new(setup, recovered, clock.now())?;
        let asks = Asks::begin(&dir, &mut node, &mut store, clock.now());
        let (records, keeper) = (Vec::new(), Keeper::new(&dir, file.name, file.role));
        let mut replica = Replica { dir, file, _lock: lock, clock, node, store, keeper, damages, book, asks, records };
        replica.drive();
        Ok(replica)
    }

    /// From now on this rule decides which events are taken from others; give it before the first sync. What it refuses
    /// is told at both ends, stays where it was written, and stops nothing behind it.
    pub fn accept_by(&mut self, rule: Box<dyn Acceptance + Send>) {
        self.node.accept_by(AcceptanceRef::Owned(rule));
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &NodeFile {
        &self.file
    }

    /// What was not as it should be when the log was opened.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// What became of each of these damages, and of those that the log tells of though their pages are gone.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.store.ledger().judge(&self.damages)
    }

    /// The version vector.
    pub fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.node.frontier()
    }

    /// Takes an event; its sequence number in this node's stream of the lane. It is durable after
    /// the next [`commit`](Replica::commit), and maybe before: many events share one fsync.
    ///
    /// # Errors
    /// [`Code::TooLarge`], [`Code::DiskFull`], [`Code::Storage`]; the event was not taken then.
    pub fn append(&mut self, lane: Lane, kind: u16, payload: &[u8]) -> Result<u64> {
        // Busy means that a group is full: writing it makes room. More than once, since making a
        // segment comes before.
        let mut tries = 0;
        loop {
            match self.node.append(self.clock.now(), lane, kind, payload) {
                Ok(ticket) => return Ok(ticket.seq),
                Err(AppendError::Busy) if tries < 3 => self.drive(),
                Err(e) => return Err(self.refusal(e, payload.len())),
            }
            tries += 1;
        }
    }

    fn refusal(&self, e: AppendError, len: usize) -> Error {
        match e {
            AppendError::TooLarge => {
                let max = self.node.limits().event_bytes;
                Error::new(Code::TooLarge, format!("{len} bytes; the limit is {max}"))
            }
            other => Error::new(other.code(), format!("the log of {}", self.file.name)),
        }
    }

    /// Waits until everything appended is on stable storage.
    ///
    /// # Errors
    /// [`Code::Storage`] and its kin: then nothing more can be written until the log is opened
    /// again, and what was not committed may or may not be there.
    pub fn commit(&mut self) -> Result<()> {
        let group = self.node.last_group();
        while self.node.durable_group() < group {
            let before = self.node.durable_group();
            self.drive();
            if let Some(code) = self.node.storage_failed() {
                return Err(Error::new(code, format!("the log of {}", self.file.name)));
            }
            if self.node.durable_group() == before {
                return Err(Error::new(Code::DiskFull, format!("the log of {}", self.file.name)));
            }
        }
        Ok(())
    }

    /// Lets the disk do all that there is to do now.
    pub(crate) fn drive(&mut self) {
        if self.store.is_suspicious()
            && let Scrubbed::Found(found) = self.store.scrub(0, 0)
        {
            self.take_damage(&found);
        }
        let written = self.drive_log();
        // Sealing keeps pace with what is written, and is never much at once.
        for _ in 0..1 + written / SEAL_STEP_BYTES {
            match self.store.seal(&mut random) {
                Sealing::Working => {}
                Sealing::Idle => {
                    let gone = self.keeper.step(&mut self.store, self.clock.now().wall_ms);
                    return self.forget(&gone);
                }
                Sealing::Sealed(_) | Sealing::Kept(_) => return self.keeper.wake(),
            }
        }
    }

    /// Seals full segments of the log and removes what the node's [rule](crate::retain::Rule) wants to be
    /// rid of, for at most about `limit`; true if nothing is left to be done.
    /// It goes on by itself with every commit; a process that ends soon should call this before, since
    /// the next one begins with the segment anew. If a month divided by the number of the segments has gone
    /// by since the last one was scrubbed, the next one is.
    pub fn maintain(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.store.seal(&mut random) != Sealing::Idle {
            if start.elapsed() > limit {
                return false;
            }
        }
        self.keeper.wake();
        loop {
            if start.elapsed() > limit {
                return false;
            }
            let gone = self.keeper.step(&mut self.store, self.clock.now().wall_ms);
            if gone.is_empty() {
                break;
            }
            self.forget(&gone);
        }
        let progress = Progress::load(&self.dir).unwrap_or_default();
        !progress.is_due(self.clock.now().wall_ms) || self.scrub_segment(progress)
    }

    /// Removes at once what the node's rule wants to be rid of; by what was judged, and what became of each
    /// segment.
    ///
    /// # Errors
    /// Those of reading rule and mark; [`Code::Corrupt`] if a segment that should go cannot be read: then it
    /// and all behind it are still there.
    pub fn expire(&mut self) -> Result<(Terms, Plan)> {
        while self.store.seal(&mut random) != Sealing::Idle {}
        let terms = Terms::read(&self.dir, self.file.role, self.clock.now().wall_ms)?;
        let plan = self.judge(&terms)?;
        loop {
            let gone = remove_some(&mut self.store, self.file.name, &terms, &mut random)?;
            if gone.is_empty() {
                return Ok((terms, plan));
            }
            self.forget(&gone);
        }
    }

    /// What would become of each segment by these terms. Removes nothing.
    ///
    /// # Errors
    /// Those of reading the log.
    pub fn judge(&mut self, terms: &Terms) -> Result<Plan> {
        judge_all(&mut self.store, self.file.name, terms)
    }

    /// The node sends nothing of what is gone.
    fn forget(&mut self, gone: &Gone) {
        for (key, seq, chain) in gone {
            self.node.expired(key, *seq, *chain);
        }
    }

    /// Reads the next segment that is due, and looks for rot; true if none was found.
    fn scrub_segment(&mut self, progress: Progress) -> bool {
        let now_ms = self.clock.now().wall_ms;
        self.store.begin_scrub(DirFiles::new(&self.dir), progress);
        let mut sound = true;
        loop {
            match self.store.scrub(PIECE_BYTES, now_ms) {
                Scrubbed::Idle => return sound,
                Scrubbed::Read(_) => {}
                Scrubbed::Through(progress) => {
                    progress.save(&self.dir);
                    if !self.store.is_suspicious() {
                        return sound;
                    }
                }
                Scrubbed::Found(found) => {
                    sound = false;
                    self.take_damage(&found);
                    self.drive();
                    return sound;
                }
            }
        }
    }

    /// Damage was found while the node is at work.
    fn take_damage(&mut self, found: &[Damage]) {
        let streams: Vec<_> = self.node.streams().collect();
        for (damage, digest) in set_aside(&self.dir, &mut DirFiles::new(&self.dir), found) {
            let cost = self.store.cost_of(&damage, &streams);
            self.book.found(&mut self.node, self.clock.now(), (&damage, digest), cost.as_deref());
            self.damages.push(damage);
        }
    }

    /// Does what the node wants of the disk; how many bytes were written.
    fn drive_log(&mut self) -> usize {
        let mut written = 0;
        loop {
            let now = self.clock.now();
            while let Some(note) = self.book.poll(&mut self.node, now) {
                self.store.learn(note);
            }
            if self.asks.poll(&self.node) {
                self.asks.save_or_tell();
            }
            let done = match self.node.poll_effect(now) {
                None => return written,
                Some(Effect::Provision { segment }) => Some(self.store.provision(segment)),
                Some(Effect::Read(request)) => {
                    // What it reads goes nowhere: there is always room.
                    let _ = self.answer_read(now, &request, usize::MAX, &mut []);
                    None
                }
                Some(Effect::Append { at, bytes, .. }) => {
                    written += bytes.len();
                    self.store.append(at, bytes)
                }
                Some(Effect::Sync { upto }) => {
                    let runs: Vec<_> = self.node.runs_in_flight().collect();
                    Some(self.store.sync(upto, &runs))
                }
            };
            // After a failure the node asks for nothing more, except after one to make the next
            // segment: then the present one still has room.
            if let Some(completion) = done {
                self.node.complete(self.clock.now(), completion);
            }
        }
    }

    /// Calls `each` with every event that this node holds, its own and others', from `from_seq` of
    /// each stream on. What was removed on purpose ([`FrontierEntry::floor`]) is skipped, and what is not here
    /// ([`Event::withheld`]).
    ///
    /// # Errors
    /// [`Code::Corrupt`] where damage has left a hole; `pull` shows how to go on behind it.
    pub fn read(&mut self, from_seq: u64, mut each: impl FnMut(&StreamKey, u64, &Event<'_>)) -> Result<()> {
        let streams: Vec<(u32, FrontierEntry)> = self.node.streams().collect();
        for (n, entry) in streams {
            let Some(grant) = authorize(Policy::Own, Principal::Owner, &entry.key).read else { continue };
            let (reader, index) = self.store.reader();
            let from_seq = from_seq.max(entry.floor + 1);
            reader.read(index, &grant, n, from_seq, entry.top, |seq, _, event| {
                if event.withheld().is_none() {
                    each(&entry.key, seq, event);
                }
                Stop::No
            })?;
        }
        Ok(())
    }

    /// Answers a read that a session asked for; not if already its first event has a payload of more than
    /// `room` bytes, which it says then.
    pub(crate) fn answer_read(
        &mut self,
        now: Now,
        request: &ReadRequest,
        room: usize,
        out: &mut [u8],
    ) -> std::result::Result<Transmit, usize> {
        let chain = self.store.read_records(request, &mut self.records);
        let records = chain
            .map(|prev_chain| Records { first_seq: request.from_seq, prev_chain, bytes: &self.records })
            .map_err(|e| {
                log::error!("{e}");
                ReadFault(e.code)
            });
        let first = records.ok().and_then(|r| r.iter().next()).map_or(0, |e| e.payload.len());
        if first > room {
            return Err(first);
        }
        Ok(self.node.complete_read(now, request, records, out))
    }
}

/// What a node is made of.
#[derive(Debug)]
pub struct Prepared {
    /// For `Node::new`.
    pub setup: Setup<'static>,
    /// What its log holds, for `Node::new`.
    pub recovered: Recovered<'static>,
    /// What was not as it should be.
    pub damages: Vec<Damage>,
    /// Its log.
    pub store: Store,
    /// The damages that are open.
    pub book: Book,
}

/// What a node of `dir` is made of: shared by the embedded node and the daemon. Call it under the
/// directory's lock.
///
/// # Errors
/// As [`Replica::open`].
pub fn prepare(dir: &DataDir, file: &NodeFile, options: &Options) -> Result<Prepared> {
    let limits = options.limits;
    std::fs::create_dir_all(dir.log()).at("making", &dir.log())?;
    let mut segments = Segments::new(dir, limits.segment_bytes as u64);
    let ring = dir.keyring()?;
    let opened = recover_to_write(&mut segments, &ring.data_keys(), file.name, limits.streams, MAX_BODY_BYTES)?;
    dir.tidy();
    let found = set_aside(dir, &mut DirFiles::new(dir), &opened.damages);
    for j in opened.index.ledger().judge(&opened.damages) {
        let d = &j.damage;
        let level = if matches!(j.fate, Fate::Repaired(_)) { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{}: segment {}, pages {} to {}", d.code, d.segment, d.from_page, d.to_page);
    }
    let book = Book::new(&opened.recovered, opened.index.ledger(), &found);
    // A sample saves bytes; a bad one must not keep events from being written.
    let sample = Sample::of(dir).unwrap_or_else(|e| {
        log::warn!("{e}; the node goes on without a base sample");
        None
    });
    let seed = random()?;
    let config = Config {
        name: file.name,
        role: file.role,
        deployment: file.deployment.map_or(0, |d| u64::from_be_bytes(d.0)),
        policy: options.policy,
        digest_from: DIGEST_FROM,
        fingerprint: fingerprint(dir),
        hlc_bound_ms: HLC_BOUND_MS,
        hlc_tick_ms: options.hlc_tick_ms,
        wall_floor_ms: TIME_FLOOR_S * 1000,
        accept_bytes: options.accept_bytes,
        timing: options.timing,
    };
    let setup = Setup {
        config,
        limits,
        memory: Memory::owned(&limits),
        codecs: codecs(options.model_states, sample.as_ref()),
        key: ring.current_key()?,
        seed,
    };
    let store = Store::new(dir, segments, opened.index)?;
    Ok(Prepared { setup, recovered: opened.recovered, damages: opened.damages, store, book })
}

impl<F: Files> Store<F> {
    /// Reads what a session wants into `buf`, as records; the chain hash before the first of them.
    ///
    /// # Errors
    /// As [`Reader::read`](crate::store::Reader::read).
    pub fn read_records(&mut self, request: &ReadRequest, buf: &mut Vec<u8>) -> Result<ropeway_core::event::Chain> {
        let (mut prev, mut used, mut count) = (None, 0, 0);
        let (reader, index) = self.reader();
        let r = request;
        let read = reader.read(index, &r.grant, r.stream, r.from_seq, r.upto_seq, |_, chain, event| {
            let need = used + ropeway_core::event::RECORD_HEAD_BYTES + event.payload.len();
            if count > 0 && need > r.bytes.max(1) + count * ropeway_core::event::RECORD_HEAD_BYTES {
                return Stop::Before;
            }
            if buf.len() < need {
                buf.resize(need, 0);
            }
            let mut w = Writer::new(&mut buf[used..]);
            if put_record(&mut w, event).is_err() {
                return Stop::Before;
            }
            prev.get_or_insert(*chain);
            (used, count) = (used + w.len(), count + 1);
            Stop::No
        });
        if read.as_ref().is_err_and(|e| matches!(e.code, Code::Corrupt | Code::Tampered | Code::Io)) {
            self.suspect(r.stream, r.grant.stream(), r.from_seq);
        }
        read?;
        buf.truncate(used);
        prev.ok_or_else(|| Error::new(Code::Corrupt, format!("event {} of {}", r.from_seq, r.grant.stream())))
    }
}

/// The identity for TLS, and the node file brought up to date with the certificate.
///
/// # Errors
/// [`Code::NotSigned`], [`Code::BadCertificate`].
pub fn identity(dir: &DataDir) -> Result<(NodeIdentity, NodeFile)> {
    let id = NodeIdentity::load(dir)?;
    let mut file = dir.record_deployment(id.deployment())?;
    file.role = if id.role() == Role::Hub { Role::Hub } else { file.role };
    Ok((id, file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keygen::init_node;
    use crate::view::{Filter, LogView};
    use ropeway_core::id::NodeName;

    fn new_node() -> (tempfile::TempDir, DataDir) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path().join("a"));
        init_node(&dir, NodeName::new("clinic_a").unwrap()).unwrap();
        (tmp, dir)
    }

    #[test]
    fn what_was_appended_is_read_back_also_after_opening_again() {
        let (_tmp, dir) = new_node();
        for round in 0..5u64 {
            let mut node = Replica::open(dir.clone(), Options::default()).unwrap();
            assert_eq!(node.damages(), []);
            for i in 0..40u64 {
                let seq = node.append(Lane::Normal, 3, format!("{round} {i}").as_bytes()).unwrap();
                assert_eq!(seq, round * 40 + i + 1);
            }
            node.append(Lane::Urgent, 0, &vec![7; 200_000]).unwrap();
            node.commit().unwrap();
            let mut found = Vec::new();
            node.read(38, |key, seq, e| found.push((key.lane, seq, e.payload.len()))).unwrap();
            assert_eq!(found.iter().filter(|f| f.0 == Lane::Normal).count() as u64, round * 40 + 3);
            assert_eq!(found.last().unwrap().1, round * 40 + 40);
        }
        let mut sum = 0;
        let mut view = LogView::open(&dir).unwrap();
        assert_eq!(
            view.read(&Filter::default(), 1, |_, _, e| {
                sum += e.payload.len();
                Stop::No
            })
            .unwrap(),
            []
        );
        assert_eq!(
            sum,
            5 * 200_000 + (0..5).flat_map(|r| (0..40).map(move |i| format!("{r} {i}").len())).sum::<usize>()
        );
    }

    #[test]
    fn on_a_full_disk_what_still_fits_is_taken_and_room_that_comes_back_is_used() {
        let (_tmp, dir) = new_node();
        let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
        let mut node = Replica::open(dir.clone(), Options { limits, ..Options::default() }).unwrap();
        // The next segment cannot be filled: its file is a device without space.
        let fill_up = || std::os::unix::fs::symlink("/dev/full", dir.log().join("next.tmp")).unwrap();
        fill_up();
        for _ in 0..4 {
            node.append(Lane::Normal, 0, &vec![1; 200_000]).unwrap();
            node.commit().unwrap();
        }
        fill_up();
        let large = vec![2; 250_000];
        assert_eq!(node.append(Lane::Normal, 0, &large).unwrap_err().code, Code::DiskFull);
        assert_eq!(node.append(Lane::Normal, 0, b"small").unwrap(), 5);
        node.commit().unwrap();
        // Nobody fills the disk any more.
        assert_eq!(node.append(Lane::Normal, 0, &large).unwrap_err().code, Code::DiskFull);
        assert_eq!(node.append(Lane::Normal, 0, &large).unwrap(), 6);
        node.commit().unwrap();
        drop(node);
        let view = LogView::open(&dir).unwrap();
        assert_eq!((view.frontier().next().unwrap().top, view.damages()), (6, &[][..]));
    }

    #[test]
    fn a_newest_segment_that_is_gone_stays_missed_and_its_numbers_are_not_given_out_again() {
        let (_tmp, dir) = new_node();
        let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
        let options = Options { limits, ..Options::default() };
        let mut node = Replica::open(dir.clone(), options).unwrap();
        for i in 0..500u32 {
            node.append(Lane::Normal, 0, &vec![i as u8; 3000]).unwrap();
            node.commit().unwrap();
        }
        assert!(node.maintain(Duration::from_secs(60)));
        let before = node.frontier().next().unwrap().key;
        drop(node);
        for entry in std::fs::read_dir(dir.log()).unwrap().map(|e| e.unwrap().path()) {
            if entry.extension().is_some_and(|e| e == "log") {
                std::fs::remove_file(entry).unwrap();
            }
        }
        for _ in 0..3 {
            let mut node = Replica::open(dir.clone(), options).unwrap();
            assert!(node.damages().iter().any(|d| d.code == Code::SegmentMissing));
            node.append(Lane::Normal, 0, b"later").unwrap();
            node.commit().unwrap();
            let key = node.frontier().map(|e| e.key).find(|key| key.incarnation != before.incarnation);
            assert!(key.is_some(), "in a new incarnation");
        }
        let view = LogView::open(&dir).unwrap();
        assert!(view.damages().iter().any(|d| d.code == Code::SegmentMissing));
        assert_eq!(view.frontier().filter(|e| e.key != before).map(|e| e.have).collect::<Vec<_>>(), [3]);
    }

    #[test]
    fn full_segments_are_sealed_while_the_log_is_written_and_read_beside_it() {
        let (_tmp, dir) = new_node();
        let limits = Limits { segment_bytes: 1 << 20, ..Limits::clinic() };
        let options = Options { limits, ..Options::default() };
        let mut payloads = Vec::new();
        for round in 0..3u32 {
            let mut node = Replica::open(dir.clone(), options).unwrap();
            assert_eq!(node.damages(), []);
            for i in 0..700u32 {
                payloads.push(format!("{round} {i} {}", "x".repeat((i * 37 % 4000) as usize)).into_bytes());
                node.append(Lane::Normal, 0, payloads.last().unwrap()).unwrap();
                if i % 3 == 0 {
                    node.commit().unwrap();
                }
                if i % 100 == 99 {
                    node.commit().unwrap();
                    let mut found = 0;
                    node.read(1, |_, seq, e| {
                        assert_eq!(e.payload, payloads[seq as usize - 1]);
                        found += 1;
                    })
                    .unwrap();
                    assert_eq!(found, payloads.len());
                }
            }
            node.commit().unwrap();
            assert!(round < 1 || node.maintain(Duration::from_secs(60)));
        }
        let mut names: Vec<_> =
            std::fs::read_dir(dir.log()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert!(names.iter().filter(|n| n.ends_with(".sealed")).count() > 3, "{names:?}");
        assert!(names.iter().filter(|n| n.ends_with(".log")).count() <= 2, "{names:?}");
        let mut view = LogView::open(&dir).unwrap();
        assert_eq!(view.damages(), []);
        let mut found = Vec::new();
        view.read(&Filter::default(), 1, |_, _, e| {
            found.push(e.payload.to_vec());
            Stop::No
        })
        .unwrap();
        assert_eq!(found, payloads);
    }

    #[test]
    fn a_log_that_is_being_written_to_never_looks_damaged() {
        let (_tmp, dir) = new_node();
        let mut node = Replica::open(dir.clone(), Options::default()).unwrap();
        let writer = std::thread::spawn(move || {
            for i in 0..600u32 {
                node.append(Lane::Normal, 0, &vec![i as u8; 100 + (i * 37 % 9_000) as usize]).unwrap();
                node.commit().unwrap();
            }
        });
        let (mut views, mut top) = (0, 0);
        while !writer.is_finished() || views == 0 {
            let mut view = LogView::open(&dir).unwrap();
            let lost: Vec<_> = view.damages().iter().filter(|d| d.is_loss()).collect();
            assert!(lost.is_empty(), "view {views}: {lost:?}");
            let mut count = 0;
            assert_eq!(
                view.read(&Filter::default(), 1, |_, _, _| {
                    count += 1;
                    Stop::No
                })
                .unwrap(),
                []
            );
            assert!(count >= top);
            (views, top) = (views + 1, count);
        }
        writer.join().unwrap();
    }
}
