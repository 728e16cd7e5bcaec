//! The world: hosts, connections, virtual time. Scenarios are written against it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::node::{AppendError, SessionId};
use ropeway_core::policy::{PeerIdentity, Policy, Role};
use ropeway_std::MemoryCa;

use crate::carrier::AirTotals;
use crate::check::Check;
use crate::disk::Disk;
use crate::exhaustive::Points;
use crate::fault::{Fault, Faults};
use crate::host::Host;
use crate::link::{Conn, End};
use crate::mutant::Mutant;
use crate::options::Stack;
use crate::profile::Profile;
use crate::rng::Rng;
use crate::shadow::Keeps;
use crate::step::Due;
use crate::tap::{Parcels, Said};
use crate::timeline::{Moment, Timeline};
use crate::truth::{Truth, fingerprint, fold};

/// Counts over a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that clinics sent.
    pub bytes_up: u64,
    /// Bytes that hubs sent.
    pub bytes_down: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Connections cut.
    pub cuts: u64,
    /// Faults of other kinds.
    pub strikes: u64,
    /// Crashes.
    pub crashes: u64,
    /// Events sent, over all sessions.
    pub sent: u64,
    /// How often old events were removed.
    pub expired: u64,
    /// Steps of the world.
    pub steps: u64,
}

/// Everything. Public fields are for scenarios.
#[derive(Debug)]
pub struct World {
    /// Nodes; the first is the hub by habit.
    pub hosts: Vec<Host>,
    /// Counts.
    pub counts: Counts,
    /// What every node has said on the wire, if [`World::listen`] was called: (from, to, what).
    pub said: Vec<(usize, usize, Said)>,
    /// Bytes of the payloads that were appended.
    pub(crate) sizes: BTreeMap<(StreamKey, u64), u64>,
    /// What was sent in parts.
    pub(crate) parcels: Parcels,
    /// New connections use it.
    pub profile: Profile,
    /// Clinics dial the first host by themselves.
    pub auto_dial: bool,
    /// Sessions are asked to finish as soon as they are open.
    pub finish: bool,
    /// Milliseconds of a sync at most.
    pub sync_ms: u64,
    /// What may go wrong by itself, and which freedom the runtime takes.
    pub faults: Faults,
    /// What happened when, for a plot.
    pub timeline: Timeline,
    /// How often faults struck that the timeline does not count.
    pub(crate) applied: BTreeMap<Fault, u64>,
    pub(crate) mutant: Mutant,
    /// Disks do things after which events may be gone for good.
    pub(crate) hostile_disk: bool,
    /// Every host compresses batches against earlier events.
    pub remembers: bool,
    /// With states that go on from batch to batch.
    pub keeps: Option<Keeps>,
    /// Every host seals its full segments.
    pub(crate) seals: bool,
    /// Old events are removed where they are kept elsewhere.
    pub(crate) retains: bool,
    /// What carries the frames.
    pub(crate) stack: Stack,
    /// What has gone over the air with the full stack.
    pub(crate) air: AirTotals,
    pub(crate) ca: Option<MemoryCa>,
    /// What an honest clinic has said, for an attacker to use.
    pub(crate) overheard: Vec<u8>,
    /// The policy of new hosts.
    pub(crate) policy: Policy,
    /// Damage hits the hub in this run, else the clinics: what one side loses the other holds.
    pub(crate) hub_suffers: bool,
    /// Payload of the largest event that new hubs take ([`Config::accept_bytes`](ropeway_core::limits::Config)).
    pub(crate) accept_bytes: usize,
    /// New hubs take no events of an odd kind.
    pub choosy: bool,
    pub(crate) listening: bool,
    pub(crate) conns: Vec<Conn>,
    pub(crate) now_us: u64,
    pub(crate) rng: Rng,
    pub(crate) truth: Truth,
    pub(crate) due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    /// Crash points are collected here, if anybody wants them.
    pub(crate) points: Option<Points>,
    serial: u64,
    /// What the nodes' random bytes are made of: they must differ even when the tape is over.
    pub(crate) entropy: (u64, u64),
}

/// Small sizes: segments fill and turn over within a short run.
#[must_use]
pub fn small_limits() -> Limits {
    Limits {
        sessions: 8,
        streams: 64,
        streams_per_node: 16,
        links: 128,
        event_bytes: 8 << 10,
        frame_bytes: 12 << 10,
        batch_bytes: 12 << 10,
        credit_bytes: 8 << 10,
        group_bytes: 20 << 10,
        segment_bytes: 64 << 10,
        histories: 3,
        history_bytes: 4 << 10,
        parcels: 4,
        parcel_bytes: 16 << 10,
        outbox: 2,
    }
}

/// Bytes of the smallest payload that a host does not take.
fn refused_from(host: &Host) -> u64 {
    let l = &host.limits;
    let by_limits = l.batch_bytes.min(l.frame_bytes).saturating_sub(128);
    match host.config.accept_bytes {
        0 => by_limits as u64,
        most => by_limits.min(most + 1) as u64,
    }
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::of_tape(Rng::new(seed))
    }

    /// An empty world that draws from a tape.
    #[must_use]
    pub fn of_tape(mut tape: Rng) -> Self {
        let entropy = (tape.next_u64(), 0);
        Self {
            hosts: Vec::new(),
            counts: Counts::default(),
            said: Vec::new(),
            sizes: BTreeMap::new(),
            parcels: Parcels::new(),
            profile: Profile::LAN,
            auto_dial: false,
            finish: true,
            sync_ms: 20,
            faults: Faults::LINK,
            timeline: Timeline::default(),
            applied: BTreeMap::new(),
            mutant: Mutant::None,
            hostile_disk: false,
            remembers: false,
            keeps: None,
            seals: false,
            retains: false,
            stack: Stack::Stream,
            air: AirTotals::default(),
            ca: None,
            overheard: Vec::new(),
            policy: Policy::Own,
            hub_suffers: false,
            accept_bytes: 0,
            choosy: false,
            listening: false,
            conns: Vec::new(),
            now_us: 0,
            rng: tape,
            truth: Truth::default(),
            due: BinaryHeap::new(),
            points: None,
            serial: 0,
            entropy,
        }
    }

    /// Random bytes for a node: never the same twice, and the same in each run of a tape.
    pub(crate) fn fresh_seed(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for part in out.chunks_mut(8) {
            self.entropy.1 += 1;
            let word =
                fold(fold(crate::truth::FNV_START, &self.entropy.0.to_le_bytes()), &self.entropy.1.to_le_bytes());
            part.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Plants a bug.
    #[must_use]
    pub fn with_mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = mutant;
        self
    }

    /// Keeps what is said on the wire, and the last lines of the trace.
    pub fn listen(&mut self) {
        self.listening = true;
        self.truth.keep_tail = true;
    }

    /// Adds a node with an empty disk and starts it; its number.
    ///
    /// # Panics
    /// If the name is none.
    pub fn add(&mut self, name: &str, role: Role, limits: Limits) -> usize {
        let sector = if self.rng.one_in(2) { 512 } else { 4096 };
        self.add_with(name, role, limits, Disk::new(sector))
    }

    /// As [`World::add`], with a disk of one's own choice.
    pub(crate) fn add_with(&mut self, name: &str, role: Role, limits: Limits, disk: Disk) -> usize {
        #[allow(clippy::expect_used, reason = "names are written in scenarios")]
        let name = NodeName::new(name).expect("a node name");
        let policy = if self.mutant == Mutant::PolicyIgnored { Policy::All } else { self.policy };
        let key = self.fresh_seed();
        self.hosts.push(Host::new(name, role, policy, limits, key, disk));
        let h = self.hosts.len() - 1;
        // Neighbours may think differently of what is worth a digest.
        self.hosts[h].config.digest_from = [1, 1, 2, 8][(self.entropy.0 as usize / 64 + h) % 4];
        if role == Role::Hub {
            self.hosts[h].config.accept_bytes = self.accept_bytes;
            self.hosts[h].choosy = self.choosy;
            let from = refused_from(&self.hosts[h]);
            self.truth.refusable_from = Some(self.truth.refusable_from.map_or(from, |least| least.min(from)));
        }
        self.timeline.names.push(self.hosts[h].config.name.to_string());
        self.start(h, false);
        h
    }

    /// Starts a node that does not run.
    pub fn start(&mut self, h: usize, crashed: bool) {
        let seed = if self.mutant == Mutant::SeedRepeats { [5; 32] } else { self.fresh_seed() };
        if self.mutant == Mutant::StartsEmpty && crashed {
            let sector = self.hosts[h].disk.sector_bytes();
            self.hosts[h].disk = Disk::new(sector);
        }
        self.hosts[h].seals |= self.seals;
        // One of them has no codec for it.
        self.hosts[h].remembers |= self.remembers && h != 3;
        self.hosts[h].keeps = self.keeps.filter(|_| h != 4);
        self.hosts[h].opens_unsynced = self.mutant == Mutant::OpensUnsynced;
        self.hosts[h].start(self.now_us, seed, &mut self.truth, crashed);
        if self.hosts[h].node.is_none() {
            self.at(10_000_000, Due::Start(h));
        }
        self.moment(h, Moment::Start);
        for c in 0..self.conns.len() {
            let conn = &mut self.conns[c];
            for e in 0..2 {
                // Its machine answers again, and knows nothing of the connection.
                if let Some(pipe) = conn.pipe.as_mut().filter(|_| conn.ends[e].host == h && conn.ends[e].closed) {
                    pipe.reboot(e);
                }
            }
            self.at_pipe(c, self.now_us);
        }
        self.wake(h, 0);
        if !self.hosts[h].backlog.is_empty() {
            self.at(1000, Due::Append(h));
        }
    }

    /// Power off: the node is gone, its disk keeps what it must and perhaps more. Peers hear
    /// nothing of it.
    pub fn crash(&mut self, h: usize) {
        self.counts.crashes += 1;
        self.truth.note(format_args!("{} crash {h}", self.now_us));
        self.moment(h, Moment::Crash);
        self.leave(h, true);
        self.hosts[h].disk.crash(&mut self.rng);
    }

    /// The process is killed; what it has written stands in the disk's cache.
    pub fn stop(&mut self, h: usize) {
        self.leave(h, false);
    }

    /// Without power nobody answers; a kernel that lost a process resets its connections.
    fn leave(&mut self, h: usize, power_lost: bool) {
        self.hosts[h].node = None;
        self.hosts[h].opened.clear();
        self.hosts[h].frozen = false;
        let dialling = self.hosts[h].dialling.take().map(|c| (c, 0));
        for (c, e) in std::mem::take(&mut self.hosts[h].sessions).into_values().chain(dialling) {
            self.conns[c].ends[e].closed = true;
            match &mut self.conns[c].pipe {
                Some(pipe) if power_lost => pipe.die(e),
                Some(pipe) => pipe.abort(e),
                None => self.conns[c].cut = true,
            }
            self.at_pipe(c, self.now_us);
        }
        self.hosts[h].tls = (None, None);
    }

    /// Puts another disk (a backup, a copied card) into a stopped host.
    pub fn replace_disk(&mut self, h: usize, disk: Disk) {
        self.stop(h);
        self.hosts[h].disk = disk;
        self.hosts[h].promised.clear();
    }

    /// Connects two nodes by what carries the frames; false if there is no way now.
    pub(crate) fn dial_hub(&mut self, from: usize) -> bool {
        if !self.reaches(from, 0) {
            return false;
        }
        match self.stack {
            Stack::Stream => self.connect(from, 0).is_some(),
            Stack::Full => self.connect_full(from, 0),
        }
    }

    /// Whether the link of a host is up and the other machine answers.
    fn reaches(&self, from: usize, to: usize) -> bool {
        self.hosts[from].dark_us <= self.now_us && !self.hosts[to].frozen
    }

    /// Opens a session at a running node; `None` if the node refuses it.
    pub(crate) fn open_session(&mut self, h: usize, peer: PeerIdentity) -> Option<SessionId> {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        let id = host.node.as_mut()?.open(now, peer).ok()?;
        if host.opened.insert(id, 0).is_some() {
            self.truth.fail(Check::ClosedOnce, "a session id was used twice");
        }
        Some(id)
    }

    /// The runtime of this host closes a session.
    pub(crate) fn close_session(&mut self, h: usize, id: SessionId) {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        if let Some(n) = &mut host.node {
            n.close(now, id);
        }
        self.wake(h, 0);
    }

    /// A session of a dialler is to end as soon as everything is there, if this run wants that.
    pub(crate) fn finish_early(&mut self, h: usize, id: SessionId) {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        if let (true, Some(n)) = (self.finish, &mut host.node) {
            n.finish(now, id);
        }
    }

    /// Connects two nodes: the session of the first. Both ends begin at once.
    pub fn connect(&mut self, from: usize, to: usize) -> Option<SessionId> {
        let us = self.now_us;
        if !self.reaches(from, to) {
            return None;
        }
        let (seen, other) = (self.hosts[from].identity(), self.hosts[to].identity());
        let a = self.open_session(from, other)?;
        let Some(b) = self.open_session(to, seen) else {
            self.close_session(from, a);
            return None;
        };
        self.finish_early(from, a);
        let c = self.conns.len();
        self.conns.push(Conn {
            ends: [End::new(from, Some(a)), End::new(to, Some(b))],
            cut: false,
            profile: self.profile,
            last_us: us,
            pipe: None,
            pipe_at_us: u64::MAX,
        });
        for (h, id, e) in [(from, a, 0), (to, b, 1)] {
            self.hosts[h].sessions.insert(id, (c, e));
            self.wake(h, 0);
        }
        self.counts.sessions += 1;
        self.truth.note(format_args!("{us} connect {from} {to}"));
        self.plan_cut(c);
        Some(a)
    }

    pub(crate) fn plan_cut(&mut self, c: usize) {
        if self.profile.cut_every_ms > 0 && self.faults.has(Fault::Cut) && !self.rng.is_over() {
            let after = self.rng.between(1, 2 * self.profile.cut_every_ms) * 1000;
            self.at(after, Due::Cut(c));
        }
    }

    /// Cuts every connection of a host. `noticed`: both sides learn of it at once.
    pub fn cut(&mut self, h: usize, noticed: bool) {
        for c in 0..self.conns.len() {
            if self.conns[c].ends.iter().any(|e| e.host == h) {
                self.cut_conn(c, noticed);
            }
        }
    }

    pub(crate) fn cut_conn(&mut self, c: usize, noticed: bool) {
        if !self.conns[c].cut {
            self.truth.note(format_args!("{} cut {c} {noticed}", self.now_us));
            // What both sides have given up already is not cut in anybody's eyes.
            if self.conns[c].ends.iter().any(|e| !e.closed) {
                self.counts.cuts += 1;
                let h = self.conns[c].ends[0].host;
                self.moment(h, Moment::Cut);
            }
        }
        self.conns[c].cut = true;
        if let Some(pipe) = &mut self.conns[c].pipe {
            pipe.cut();
        }
        for e in 0..2 {
            // Often only one side hears of it.
            if !self.conns[c].ends[e].closed && (noticed || self.rng.one_in(3)) {
                self.drop_end(c, e);
            }
        }
    }

    /// The runtime of this end gives the connection up.
    pub(crate) fn drop_end(&mut self, c: usize, e: usize) {
        let end = &mut self.conns[c].ends[e];
        end.closed = true;
        let (h, session) = (end.host, end.session.take());
        let host = &mut self.hosts[h];
        if let Some(id) = session {
            host.sessions.remove(&id);
            self.close_session(h, id);
        }
        if self.conns[c].pipe.is_some() {
            self.leave_pipe(c, e);
        } else if !self.conns[c].cut {
            let at = self.conns[c].ends[e].end_us(self.now_us, &self.conns[c].profile);
            self.due_at(at, Due::Eof(c, e));
        }
        // Who was pushed out by another machine of its name leaves that one some time.
        let pushed = self.hosts[h].endings.last().is_some_and(|e| e.code == Some(Code::Superseded));
        // The others wait longer from time to time, as the daemon does.
        let failures = self.hosts[h].failures;
        let most_ms = if pushed { 600_000 } else { 5_000 << (failures / 4).min(6) };
        // Two machines of one name must not meet again and again, nor one knock at a hub that cannot take
        // anything, even when chance is over.
        let least_ms = match (pushed, failures) {
            (true, _) => 30_000 * (h as u64 + 1),
            (false, 0..4) => 1,
            (false, _) => most_ms / 2,
        };
        let again = self.rng.between(least_ms, least_ms + most_ms) * 1000;
        self.at(again, Due::Dial(h));
        self.wake(h, 0);
    }

    /// Appends an event to be durable soon.
    ///
    /// # Errors
    /// What the node says.
    pub fn append(&mut self, h: usize, lane: Lane, kind: u16, payload: &[u8]) -> Result<u64, AppendError> {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        let Some(node) = &mut host.node else { return Err(AppendError::Busy) };
        let incarnation = node.incarnation();
        let ticket = node.append(now, lane, kind, payload)?;
        let key = StreamKey { node: host.config.name, incarnation, lane };
        host.wrote.insert(key);
        self.sizes.insert((key, ticket.seq), payload.len() as u64);
        // A node takes a clock before its floor for the floor.
        let shown_ms = host.wall_seen_ms.max(now.wall_ms).max(host.config.wall_floor_ms);
        let most_ms = shown_ms + host.config.hlc_bound_ms;
        host.wall_seen_ms = host.wall_seen_ms.max(now.wall_ms);
        self.truth.appended(key, ticket.seq, fingerprint(kind, payload), ticket.hlc);
        self.truth.note_kind(key, ticket.seq, kind);
        self.truth.hold(Check::ClockBound, ticket.hlc.ms() <= most_ms, || {
            format!("{key}: event {} is stamped {:?}, at most {most_ms} may be believed", ticket.seq, ticket.hlc)
        });
        self.timeline.events += 1;
        self.truth.note(format_args!("{} append {h} {lane} {}", self.now_us, ticket.seq));
        self.wake(h, 0);
        Ok(ticket.seq)
    }

    /// As [`World::append`], as often as it takes.
    ///
    /// # Panics
    /// If it is refused for another reason than that the disk is busy.
    pub fn write(&mut self, h: usize, lane: Lane, payload: &[u8]) {
        for _ in 0..1000 {
            match self.append(h, lane, 1, payload) {
                Ok(_) => return,
                Err(AppendError::Busy) => self.run_for(5),
                Err(e) => {
                    self.truth.fail(Check::Refusal, format!("an append was refused: {}", e.code()));
                    return;
                }
            }
        }
        self.truth.fail(Check::Refusal, "the disk stays busy");
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now_us + ms * 1000;
        while self.truth.failed.is_none() && self.step(until) {}
        // A failure ends the run: it is told when that was.
        if self.truth.failed.is_none() {
            self.now_us = self.now_us.max(until);
        }
    }

    /// Lets time pass until `done`; false if that does not come within `ms`.
    pub fn run_until(&mut self, ms: u64, mut done: impl FnMut(&World) -> bool) -> bool {
        let until = self.now_us + ms * 1000;
        while self.truth.failed.is_none() && !done(self) {
            if !self.step(until) {
                return done(self);
            }
        }
        self.truth.failed.is_none()
    }

    pub(crate) fn wake(&mut self, h: usize, after_us: u64) {
        self.at(after_us, Due::Wake(h));
    }

    pub(crate) fn at(&mut self, after_us: u64, due: Due) {
        self.due_at(self.now_us + after_us, due);
    }

    pub(crate) fn due_at(&mut self, us: u64, due: Due) {
        self.serial += 1;
        self.due.push(Reverse((us, self.serial, due)));
    }

    /// Counts a fault for the report.
    pub(crate) fn struck(&mut self, fault: Fault) {
        *self.applied.entry(fault).or_default() += 1;
    }

    pub(crate) fn moment(&mut self, h: usize, what: Moment) {
        self.timeline.moments.push((self.now_us / 1000, h, what));
    }
}
