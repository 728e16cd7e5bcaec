//! One node with its disk, its clock, and everything that its runtime keeps.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ropeway_core::code::Code;
use ropeway_core::codec::toy::{Keeper, Toy};
use ropeway_core::codec::{CodecRef, Codecs};
use ropeway_core::event::Event as LogEvent;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::limits::{Config, Limits, Timing};
use ropeway_core::log::{DataKey, Header, LostRange, MAX_BODY_BYTES, PAGE_BYTES};
use ropeway_core::node::{Ending, Event, Memory, Node, ReadRequest, SessionId, Setup};
use ropeway_core::planted::spared;
use ropeway_core::policy::{PeerIdentity, Policy, Principal, Role, authorize};
use ropeway_core::recovery::RunAt;
use ropeway_core::streams::FrontierEntry;
use ropeway_core::time::Now;
use ropeway_std::NodeIdentity;
use ropeway_std::repair::Book;
use ropeway_std::scrub::Progress;
use ropeway_std::store::{Damage, KEY_ID, Opened, Reader, Segments, Stop, Store, recover_files, recover_to_write};
use ropeway_std::tls::{Client, Server};

use crate::check::Check;
use crate::disk::{Disk, Mount};
use crate::rule::{is_refused, rule};
use crate::shadow::{Keeps, Shadow};
use crate::truth::{Truth, fingerprint};

/// Start of simulated wall time.
pub const EPOCH_MS: u64 = 1_770_000_000_000;

/// The name of the peer that says anything.
pub(crate) const HOSTILE: &str = "mallory";

/// A node that an application is going to write to.
#[derive(Debug)]
pub struct Host {
    /// Its identity and timing.
    pub config: Config,
    /// Its sizes.
    pub limits: Limits,
    /// Its disk.
    pub disk: Disk,
    /// The wall clock of this host is so much ahead (milliseconds).
    pub wall_ahead_ms: i64,
    /// Events that its application wants to append.
    pub backlog: VecDeque<(Lane, u16, Vec<u8>)>,
    /// The next sync fails.
    pub fail_sync: bool,
    /// Events of which only the places were found in its log.
    pub(crate) placed: RefCell<BTreeSet<(StreamKey, u64)>>,
    /// What the node told, without `CaughtUp`.
    pub told: Vec<Event>,
    /// How sessions ended, in order.
    pub endings: Vec<Ending>,
    /// How often the node said that a session had nothing left to do.
    pub caught_up: u64,
    /// What was not as it should be when the log was opened last.
    pub findings: Vec<Damage>,
    /// What the application was refused with, last.
    pub refused: Option<Code>,
    /// Damage was done to its disk: it may lack what was durable.
    pub damaged: bool,
    pub(crate) key: [u8; 32],
    pub(crate) node: Option<Node<'static>>,
    /// Its disk as the store of this boot has mounted it.
    pub(crate) store: Option<Store<Mount>>,
    /// Its damages that are open.
    pub(crate) book: Book,
    /// Reads that batches wait for.
    pub(crate) reads: VecDeque<ReadRequest>,
    /// Whether it compresses batches against earlier events.
    pub(crate) remembers: bool,
    /// It takes no events of an odd kind from peers.
    pub(crate) choosy: bool,
    /// What keeps states for that, if anything does.
    pub(crate) keeps: Option<Keeps>,
    /// What damages found since the log was opened have cost.
    pub(crate) lost_live: Vec<(Damage, LostRange)>,
    /// The salt under which it writes since this boot.
    salt: Option<[u8; 32]>,
    pub(crate) boot: u32,
    /// What the group holds that is being written.
    pub(crate) runs: Vec<RunAt>,
    pub(crate) writing: Vec<(StreamKey, u64)>,
    /// Highest seq of each stream that the disk has really synced.
    pub(crate) synced: BTreeMap<StreamKey, u64>,
    /// Highest seq of each stream that the node was told to be durable.
    pub(crate) promised: BTreeMap<StreamKey, u64>,
    pub(crate) sessions: BTreeMap<SessionId, (usize, usize)>,
    /// Sessions of this boot, and how often each was said to be closed.
    pub(crate) opened: BTreeMap<SessionId, u32>,
    pub(crate) wake_us: u64,
    /// What the disk has really synced at any time, on any disk of this host.
    pub(crate) ever_synced: BTreeMap<StreamKey, u64>,
    /// Streams that this host has appended to.
    pub(crate) wrote: BTreeSet<StreamKey>,
    /// The latest that this host's wall clock has shown.
    pub(crate) wall_seen_ms: u64,
    /// Its wall clock gains so much (parts in a million).
    pub(crate) drift_ppm: i64,
    /// Its process is stopped.
    pub(crate) frozen: bool,
    /// A connection whose handshake is under way.
    pub(crate) dialling: Option<usize>,
    /// Its certificate, for the full stack.
    pub(crate) identity_tls: Option<NodeIdentity>,
    /// What its process knows of TLS sessions, as a dialler and as a hub.
    pub(crate) tls: (Option<Client>, Option<Server>),
    /// Sessions in a row that did not end well.
    pub(crate) failures: u32,
    /// When its application appends next.
    pub(crate) append_at_us: u64,
    /// Its link is dead until then.
    pub(crate) dark_us: u64,
    /// Its application waits for the first whole sync: the disk is an old backup.
    pub(crate) hold: bool,
    /// The disk was full a moment ago.
    pub(crate) was_full: bool,
    /// The disk has refused a write or a sync.
    pub(crate) disk_failed: bool,
    /// An image of the disk, taken while all was well.
    pub(crate) backup: Option<Disk>,
    /// Events of it that were durable at the hub when that was noted last.
    pub(crate) at_hub: u64,
    /// It seals full segments, in steps between its commits. Off at first: sealing changes what chance
    /// brings in a run.
    pub seals: bool,
    /// How often its rule was looked at, and up to where its last backup holds each stream.
    pub(crate) asked: u64,
    pub(crate) backed_up: BTreeMap<StreamKey, u64>,
    /// A planted bug: what opening found is not made durable.
    pub(crate) opens_unsynced: bool,
    /// The host whose card was copied.
    pub(crate) clone_of: Option<usize>,
}

impl Host {
    pub(crate) fn new(name: NodeName, role: Role, policy: Policy, limits: Limits, key: [u8; 32], disk: Disk) -> Self {
        let config = Config {
            name,
            role,
            digest_from: 1,
            deployment: 7,
            policy,
            fingerprint: 1,
            hlc_bound_ms: 24 * 3_600_000,
            hlc_tick_ms: 1,
            wall_floor_ms: EPOCH_MS,
            accept_bytes: 0,
            timing: Timing::default(),
        };
        Self {
            config,
            limits,
            disk,
            wall_ahead_ms: 0,
            backlog: VecDeque::new(),
            fail_sync: false,
            placed: RefCell::default(),
            told: Vec::new(),
            endings: Vec::new(),
            caught_up: 0,
            findings: Vec::new(),
            refused: None,
            damaged: false,
            key,
            node: None,
            store: None,
            book: Book::default(),
            reads: VecDeque::new(),
            remembers: false,
            choosy: false,
            keeps: None,
            lost_live: Vec::new(),
            salt: None,
            boot: 0,
            runs: Vec::new(),
            writing: Vec::new(),
            synced: BTreeMap::new(),
            promised: BTreeMap::new(),
            sessions: BTreeMap::new(),
            opened: BTreeMap::new(),
            wake_us: u64::MAX,
            ever_synced: BTreeMap::new(),
            wrote: BTreeSet::new(),
            wall_seen_ms: 0,
            drift_ppm: 0,
            frozen: false,
            dialling: None,
            identity_tls: None,
            tls: (None, None),
            failures: 0,
            append_at_us: 0,
            dark_us: 0,
            hold: false,
            was_full: false,
            disk_failed: false,
            backup: None,
            at_hub: 0,
            seals: false,
            asked: 0,
            backed_up: BTreeMap::new(),
            opens_unsynced: false,
            clone_of: None,
        }
    }

    /// The same card in another machine, which has written nothing yet.
    pub(crate) fn copy_into_another_machine(&self, h: usize) -> Self {
        let config = Config { fingerprint: self.config.fingerprint + 1 + h as u64, ..self.config };
        let image = self.disk.snapshot();
        let mut copy = Self::new(config.name, config.role, config.policy, self.limits, self.key, image);
        copy.config = config;
        copy.clone_of = Some(h);
        copy.damaged = self.damaged;
        copy.wall_ahead_ms = self.wall_ahead_ms;
        copy.wall_seen_ms = self.wall_seen_ms;
        copy.identity_tls.clone_from(&self.identity_tls);
        copy
    }

    /// The same machine with its power off and this disk in it.
    pub(crate) fn without_power(&self, disk: Disk) -> Self {
        let c = self.config;
        Self {
            config: c,
            promised: self.promised.clone(),
            ever_synced: self.ever_synced.clone(),
            wrote: self.wrote.clone(),
            choosy: self.choosy,
            boot: self.boot,
            wall_ahead_ms: self.wall_ahead_ms,
            wall_seen_ms: self.wall_seen_ms,
            ..Self::new(c.name, c.role, c.policy, self.limits, self.key, disk)
        }
    }

    /// Segment and first page of the newest group on its disk.
    pub(crate) fn newest_group(&self) -> Option<(u64, u64)> {
        self.open_log().ok()?.newest.map(|g| (g.segment, g.from_page))
    }

    /// Takes an image of the disk. It may hold more than was ever reported as synced.
    pub(crate) fn back_up(&mut self) {
        let image = self.disk.snapshot();
        if let Ok(log) = self.open_log_on(&image) {
            for e in log.recovered.frontier() {
                let ever = self.ever_synced.entry(e.key).or_default();
                *ever = (*ever).max(e.top);
            }
        }
        self.backup = Some(image);
    }

    /// What was appended and never durable is gone: its numbers may be given out again. What was
    /// durable once is known to somebody, whatever became of this disk.
    pub(crate) fn settle_truth(&self, truth: &mut Truth) {
        for key in &self.wrote {
            truth.truncate(key, self.ever_synced.get(key).copied().unwrap_or(0));
        }
    }

    /// The node, while it runs.
    #[must_use]
    pub fn node(&self) -> Option<&Node<'static>> {
        self.node.as_ref()
    }

    /// What a peer's certificate check would say of this host.
    #[must_use]
    pub fn identity(&self) -> PeerIdentity {
        PeerIdentity { name: self.config.name, role: self.config.role }
    }

    pub(crate) fn now(&self, us: u64) -> Now {
        let ms = us / 1000;
        let drift_ms = (ms as i64).saturating_mul(self.drift_ppm) / 1_000_000;
        Now::new(ms, (EPOCH_MS + ms).saturating_add_signed(self.wall_ahead_ms.saturating_add(drift_ms)))
    }

    /// Starts the node from its disk. `crashed`: what was not durable is gone for good, and its
    /// numbers may be used again.
    pub(crate) fn start(&mut self, us: u64, seed: [u8; 32], truth: &mut Truth, crashed: bool) {
        self.boot += 1;
        self.wake_us = u64::MAX;
        self.writing.clear();
        self.runs.clear();
        self.salt = None;
        let mut segments = Segments::over(self.disk.mount(), self.limits.segment_bytes as u64);
        let opened = if self.opens_unsynced {
            self.open_log()
        } else {
            let (streams, keys) = (self.limits.streams, self.keys());
            recover_to_write(&mut segments, &keys, self.config.name, streams, MAX_BODY_BYTES)
        };
        let log = match opened {
            Ok(log) => log,
            // As a daemon does that cannot start: somebody tries again later.
            Err(e) if matches!(e.code, Code::Storage | Code::Io | Code::DiskFull) => {
                truth.note(format_args!("{us} {} does not start: {e}", self.config.name));
                return;
            }
            Err(e) => {
                return truth.fail(Check::LogOpens, format!("{}: the log does not open: {e}", self.config.name));
            }
        };
        let top: BTreeMap<StreamKey, u64> = log.recovered.frontier().map(|e| (e.key, e.top)).collect();
        let held = |key: &StreamKey| top.get(key).copied().unwrap_or(0);
        if crashed && !log.in_doubt {
            for (key, seq) in self.promised.iter().filter(|_| !self.damaged) {
                truth.hold(Check::Durable, held(key) >= *seq, || {
                    format!("{}: {key} was durable to {seq}, is now {}", self.config.name, held(key))
                });
            }
        }
        // A group that is in doubt may be back at the next start.
        if !log.in_doubt {
            self.promised.clone_from(&top);
        }
        self.synced = top;
        self.note_synced();
        if crashed && !log.in_doubt {
            self.settle_truth(truth);
        }
        if !self.damaged {
            let other = log.damages.iter().find(|d| !matches!(d.code, Code::TornTail | Code::TailSuspect));
            truth.hold(Check::DamageBounded, other.is_none(), || {
                format!(
                    "{}: a power cut is taken for {}",
                    self.config.name,
                    other.map_or_else(String::new, |d| d.code.to_string())
                )
            });
        }
        self.disk_failed |= log.in_doubt;
        self.open_book(&log);
        self.findings = log.damages;
        let mut store = Store::over(segments, self.reader(), log.index);
        store.begin_scrub(self.disk.mount(), Progress::default());
        self.store = Some(store);
        self.reads.clear();
        let keeper = self.keeps.map(|keeps| match keeps {
            Keeps::Toy | Keeps::Sampled => CodecRef::Owned(Box::new(Keeper::default())),
            Keeps::Model => CodecRef::Owned(Box::new(Shadow::new())),
        });
        let toy = self.remembers.then(|| CodecRef::Owned(Box::new(Toy)));
        // Every third node has not heard of the new sample.
        let tag = self.config.name.as_bytes().last().map_or(0, |b| u32::from(b % 3 == 1));
        let sampled =
            (self.keeps == Some(Keeps::Sampled)).then(|| CodecRef::Owned(Box::new(Keeper::sampled(tag)) as _));
        let codecs = sampled.into_iter().chain(keeper).chain(toy).fold(Codecs::default(), Codecs::with);
        let setup = Setup {
            config: self.config,
            limits: self.limits,
            memory: Memory::owned(&self.limits),
            codecs,
            key: (KEY_ID, DataKey::new(self.key)),
            seed,
        };
        match Node::new(setup, log.recovered, self.now(us)) {
            Ok(mut node) => {
                if self.choosy {
                    node.accept_by(rule());
                }
                self.node = Some(node);
            }
            Err(code) => truth.fail(Check::LogOpens, format!("{}: the node does not start: {code}", self.config.name)),
        }
    }

    /// Does a little of what there is to seal.
    pub(crate) fn seal(&mut self, us: u64) {
        let (Some(store), true) = (&mut self.store, self.seals) else { return };
        for step in 0..4u8 {
            // Never the same twice, which is all that a simulated disk asks of it.
            let mut salt = [step; 32];
            salt[..8].copy_from_slice(&us.to_le_bytes());
            salt[8..12].copy_from_slice(&self.boot.to_le_bytes());
            store.seal(&mut || Ok(salt));
        }
    }

    /// The streams of the runs that are being written.
    pub(crate) fn runs(&self) -> Vec<RunAt> {
        self.node.as_ref().map_or(Vec::new(), |n| n.runs_in_flight().collect())
    }

    fn keys(&self) -> Vec<(u32, DataKey)> {
        vec![(KEY_ID, DataKey::new(self.key))]
    }

    fn reader(&self) -> Reader<Mount> {
        Reader::over(self.disk.mount(), self.keys())
    }

    pub(crate) fn open_log(&self) -> ropeway_std::Result<Opened> {
        self.open_log_on(&self.disk)
    }

    fn open_log_on(&self, disk: &Disk) -> ropeway_std::Result<Opened> {
        let keys = self.keys();
        recover_files(&mut disk.mount(), &keys, self.config.name, self.limits.streams, MAX_BODY_BYTES)
    }

    /// Salt and page of the frame in a write, `None` if no salt was ever chosen.
    pub(crate) fn frame_in(&mut self, offset: u64, bytes: &[u8]) -> Option<([u8; 32], u64)> {
        let page = offset / PAGE_BYTES as u64;
        let header = Header::parse(bytes).ok();
        self.salt = header.as_ref().map(|h| h.start.salt).or(self.salt);
        self.salt.map(|salt| (salt, page + u64::from(header.is_some())))
    }

    pub(crate) fn read_all(&self, key: &StreamKey) -> Vec<Stored> {
        let Ok(log) = self.open_log() else { return Vec::new() };
        let Some((n, entry)) = log.recovered.streams().find(|(_, e)| e.key == *key) else { return Vec::new() };
        let mut all = Vec::new();
        let each = |e: &LogEvent<'_>| all.push(Stored { hlc: e.hlc, flags: e.flags, payload: e.payload.to_vec() });
        match read_stream(&mut self.reader(), &log, n, &entry, entry.floor + 1, each) {
            Ok(()) => all,
            Err(_) => Vec::new(),
        }
    }

    /// The events of a stream of which its log holds the places only.
    pub(crate) fn places(&self, key: &StreamKey) -> BTreeSet<u64> {
        let (mut places, mut reader) = (BTreeSet::new(), self.reader());
        let Ok(log) = spared(|| self.open_log()) else { return places };
        if let Some((n, entry)) = log.recovered.streams().find(|(_, e)| e.key == *key) {
            let mut seq = entry.floor;
            let each = |e: &LogEvent<'_>| {
                seq += 1;
                if e.withheld().is_some() {
                    places.insert(seq);
                }
            };
            let _ = spared(|| read_stream(&mut reader, &log, n, &entry, entry.floor + 1, each));
        }
        places
    }

    /// Highest seq of a stream that this host's disk has really synced.
    #[must_use]
    pub fn synced_seq(&self, key: &StreamKey) -> u64 {
        self.has_synced(key)
    }

    pub(crate) fn note_synced(&mut self) {
        for (key, seq) in &self.synced {
            let ever = self.ever_synced.entry(*key).or_default();
            *ever = (*ever).max(*seq);
        }
    }

    /// Highest seq up to which this host's disk holds a stream without a hole.
    pub(crate) fn contiguous(&self, key: &StreamKey) -> u64 {
        let synced = self.has_synced(key);
        if !self.damaged {
            return synced;
        }
        let gap = self.node.as_ref().and_then(|n| n.frontier().find(|e| e.key == *key)?.gap);
        gap.map_or(synced, |(first, _)| first - 1)
    }

    pub(crate) fn has_synced(&self, key: &StreamKey) -> u64 {
        self.synced.get(key).copied().unwrap_or(0)
    }

    /// Reads the whole durable log again and holds it against the truth; the number of events.
    pub(crate) fn verify(&self, truth: &mut Truth) -> u64 {
        spared(|| self.verify_soundly(truth))
    }

    fn verify_soundly(&self, truth: &mut Truth) -> u64 {
        let who = self.config.name;
        let log = match self.open_log() {
            Ok(log) => log,
            Err(e) => {
                truth.fail(Check::LogOpens, format!("{who}: the log does not open: {e}"));
                return 0;
            }
        };
        let (mut count, mut reader) = (0, self.reader());
        for (n, entry) in log.recovered.streams() {
            if entry.key.node.as_str() == HOSTILE {
                continue;
            }
            let whole = entry.gap.is_none();
            truth.hold(Check::NoHoles, whole, || format!("{who}: {} has a hole", entry.key));
            if !whole {
                continue;
            }
            let (mut events, mut places, mut unwanted) = (Vec::new(), Vec::new(), 0);
            let choosy = self.choosy && entry.key.node != who;
            let each = |e: &LogEvent<'_>| {
                places.extend(e.withheld().map(|place| (events.len(), place)));
                unwanted += u64::from(choosy && is_refused(e.kind) && e.withheld().is_none());
                events.push((fingerprint(e.kind, e.payload), e.hlc));
            };
            if let Err(e) = read_stream(&mut reader, &log, n, &entry, entry.floor + 1, each) {
                truth.fail(Check::NoHoles, format!("{who}: {} cannot be read: {e}", entry.key));
                continue;
            }
            truth.hold(Check::NoHoles, events.len() as u64 == entry.have - entry.floor, || {
                format!("{who}: only {} events of {} can be read", events.len(), entry.key)
            });
            truth.hold(Check::Withheld, unwanted == 0, || {
                format!("{who}: {unwanted} events of {} are here although its rule refuses them", entry.key)
            });
            let mut wrote = events.clone();
            for (at, place) in places {
                let seq = entry.floor + 1 + at as u64;
                wrote[at] = truth.place(who.as_str(), &entry.key, seq, &place);
                let known = entry.withheld.is_some_and(|(from, to)| (from..=to).contains(&seq));
                truth.hold(Check::Withheld, known, || format!("{who}: {} {seq} is missing unnoticed", entry.key));
                self.placed.borrow_mut().insert((entry.key, seq));
            }
            truth.compare(who.as_str(), &entry.key, entry.floor + 1, &wrote);
            count += entry.have;
            // From the middle on, as a session that resumes reads.
            let from = entry.floor + (entry.have - entry.floor) / 2 + 1;
            let mut rest = Vec::new();
            let each = |e: &LogEvent<'_>| rest.push((fingerprint(e.kind, e.payload), e.hlc));
            let read = read_stream(&mut self.reader(), &log, n, &entry, from, each);
            let same = read.is_ok() && events.get((from - entry.floor) as usize - 1..).is_none_or(|e| e == rest);
            truth.hold(Check::ReadsAsAsked, same, || format!("{who}: {} from {from} on reads otherwise", entry.key));
        }
        count
    }
}

/// An event read back from a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its stamp.
    pub hlc: Hlc,
    /// Its flags.
    pub flags: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Hands out the events of a stream, from `from` on to the first that is missing.
fn read_stream(
    reader: &mut Reader<Mount>,
    log: &Opened,
    number: u32,
    entry: &FrontierEntry,
    from: u64,
    mut each: impl FnMut(&LogEvent<'_>),
) -> ropeway_std::Result<()> {
    let Some(grant) = authorize(Policy::Own, Principal::Owner, &entry.key).read else { return Ok(()) };
    reader.read(&log.index, &grant, number, from, entry.have, |_, _, event| {
        each(event);
        Stop::No
    })
}
