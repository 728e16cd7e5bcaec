//! The world: hosts, connections, virtual time. Scenarios are written against it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ropeway_core::code::Code;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::node::{AppendError, Completion, SessionId};
use ropeway_core::policy::{Policy, Role};

use crate::disk::Disk;
use crate::host::{Host, Stored};
use crate::link::{Conn, End, Profile};
use crate::rng::Rng;
use crate::tap::{Said, Truth, fingerprint};

/// A bug planted in the simulator's wiring, which the oracles must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// The disk says "durable" before it has synced.
    DurableWithoutSync,
    /// A sync forgets a sector.
    SyncForgetsSector,
    /// The log reader changes a byte of a payload.
    ReaderAltersPayload,
    /// The hub runs under `all` where `own` is demanded.
    PolicyIgnored,
    /// A restored card goes on under the salt of its other life: salts repeat.
    SeedRepeats,
}

/// What will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Wake(usize),
    Land(usize, usize),
    Eof(usize, usize),
    Provisioned(usize, u32, u64),
    Synced(usize, u32, u64),
    Told(usize, u32, u64),
    Append(usize),
    Dial(usize),
    Cut(usize),
    Crash(usize),
    Start(usize),
}

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
    /// Crashes.
    pub crashes: u64,
    /// Events sent, over all sessions.
    pub sent: u64,
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
    /// New connections use it.
    pub profile: Profile,
    /// Clinics dial the first host by themselves.
    pub auto_dial: bool,
    /// Sessions are asked to finish as soon as they are open.
    pub finish: bool,
    /// Milliseconds of a sync at most.
    pub sync_ms: u64,
    pub(crate) mutant: Mutant,
    pub(crate) listening: bool,
    pub(crate) conns: Vec<Conn>,
    pub(crate) now_us: u64,
    pub(crate) rng: Rng,
    pub(crate) truth: Truth,
    pub(crate) due: BinaryHeap<Reverse<(u64, u64, Due)>>,
    serial: u64,
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
    }
}

impl World {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            counts: Counts::default(),
            said: Vec::new(),
            profile: Profile::LAN,
            auto_dial: false,
            finish: true,
            sync_ms: 20,
            mutant: Mutant::None,
            listening: false,
            conns: Vec::new(),
            now_us: 0,
            rng: Rng::new(seed),
            truth: Truth::new(),
            due: BinaryHeap::new(),
            serial: 0,
        }
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
        #[allow(clippy::expect_used, reason = "names are written in scenarios")]
        let name = NodeName::new(name).expect("a node name");
        let policy = if self.mutant == Mutant::PolicyIgnored { Policy::All } else { Policy::Own };
        let sector = if self.rng.one_in(2) { 512 } else { 4096 };
        let key = self.rng.seed();
        self.hosts.push(Host::new(name, role, policy, limits, key, Disk::new(sector)));
        let h = self.hosts.len() - 1;
        self.start(h, false);
        h
    }

    /// Starts a node that does not run.
    pub fn start(&mut self, h: usize, crashed: bool) {
        let seed = if self.mutant == Mutant::SeedRepeats { [5; 32] } else { self.rng.seed() };
        self.hosts[h].start(self.now_us, seed, &mut self.truth, crashed);
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
        self.stop(h);
        self.hosts[h].disk.crash(&mut self.rng);
    }

    /// The process ends without a word; the disk's cache is written as it stands.
    pub fn stop(&mut self, h: usize) {
        self.hosts[h].node = None;
        self.hosts[h].opened.clear();
        for (c, e) in std::mem::take(&mut self.hosts[h].sessions).into_values() {
            self.conns[c].ends[e].closed = true;
            self.conns[c].cut = true;
        }
    }

    /// Puts another disk (a backup, a copied card) into a stopped host.
    pub fn replace_disk(&mut self, h: usize, disk: Disk) {
        self.stop(h);
        self.hosts[h].disk = disk;
        self.hosts[h].promised.clear();
    }

    /// Connects two nodes: the session of the first. Both ends begin at once.
    pub fn connect(&mut self, from: usize, to: usize) -> Option<SessionId> {
        let (us, seen) = (self.now_us, self.hosts[from].identity());
        let other = self.hosts[to].identity();
        let (now_a, now_b) = (self.hosts[from].now(us), self.hosts[to].now(us));
        let a = self.hosts[from].node.as_mut()?.open(now_a, other).ok()?;
        let Some(Ok(b)) = self.hosts[to].node.as_mut().map(|n| n.open(now_b, seen)) else {
            self.hosts[from].opened.insert(a, 0);
            if let Some(n) = &mut self.hosts[from].node {
                n.close(now_a, a);
            }
            self.wake(from, 0);
            return None;
        };
        if self.finish
            && let Some(n) = &mut self.hosts[from].node
        {
            n.finish(now_a, a);
        }
        let c = self.conns.len();
        self.conns.push(Conn { ends: [End::new(from, a), End::new(to, b)], cut: false, profile: self.profile });
        for (h, id, e) in [(from, a, 0), (to, b, 1)] {
            if self.hosts[h].opened.insert(id, 0).is_some() {
                self.truth.fail("a session id was used twice");
            }
            self.hosts[h].sessions.insert(id, (c, e));
            self.wake(h, 0);
        }
        self.counts.sessions += 1;
        self.truth.note(format_args!("{us} connect {from} {to}"));
        if self.profile.cut_every_ms > 0 {
            let after = self.rng.between(1, 2 * self.profile.cut_every_ms) * 1000;
            self.at(after, Due::Cut(c));
        }
        Some(a)
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
            self.counts.cuts += 1;
            self.truth.note(format_args!("{} cut {c} {noticed}", self.now_us));
        }
        self.conns[c].cut = true;
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
            let now = host.now(self.now_us);
            if let Some(n) = &mut host.node {
                n.close(now, id);
            }
        }
        if !self.conns[c].cut {
            let at = self.conns[c].ends[e].end_us(self.now_us, &self.conns[c].profile);
            self.due_at(at, Due::Eof(c, e));
        }
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
        let events = self.truth.events.entry(key).or_default();
        if ticket.seq == events.len() as u64 + 1 {
            events.push(fingerprint(kind, payload));
        } else {
            let known = events.len();
            self.truth.fail(format!("{key}: seq {} was given after {known}", ticket.seq));
        }
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
                    self.truth.fail(format!("an append was refused: {}", e.code()));
                    return;
                }
            }
        }
        self.truth.fail("the disk stays busy");
    }

    /// Lets time pass.
    pub fn run_for(&mut self, ms: u64) {
        let until = self.now_us + ms * 1000;
        while self.truth.failed.is_none() && self.step(until) {}
        self.now_us = self.now_us.max(until);
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

    /// Milliseconds since the start.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_us / 1000
    }

    /// The first check that failed.
    #[must_use]
    pub fn failed(&self) -> Option<&str> {
        self.truth.failed.as_deref()
    }

    /// Hash over everything that happened.
    #[must_use]
    pub fn trace(&self) -> u64 {
        self.truth.trace
    }

    /// The last lines of the trace.
    #[must_use]
    pub fn tail(&self) -> &VecDeque<String> {
        &self.truth.tail
    }

    /// Whether host `b` durably holds all that host `a` has durably written itself.
    #[must_use]
    pub fn holds_all_of(&self, b: usize, a: usize) -> bool {
        let (name, b) = (self.hosts[a].config.name, &self.hosts[b]);
        self.hosts[a].synced.iter().filter(|(k, _)| k.node == name).all(|(k, seq)| b.has_synced(k) >= *seq)
    }

    /// Number of durable events of node `of` at host `h`.
    #[must_use]
    pub fn durable_events(&self, h: usize, of: usize) -> u64 {
        let name = self.hosts[of].config.name;
        self.hosts[h].synced.iter().filter(|(k, _)| k.node == name).map(|(_, n)| n).sum()
    }

    /// Reads a host's log again and checks every event in it; their number.
    pub fn verify(&mut self, h: usize) -> u64 {
        self.hosts[h].verify(&mut self.truth)
    }

    /// The events of a stream as they stand in a host's log.
    #[must_use]
    pub fn stored(&self, h: usize, key: &StreamKey) -> Vec<Stored> {
        self.hosts[h].read_all(key)
    }

    /// A stream's origin has lost its tail: the oracles expect other events from `seq` + 1 on. What
    /// other hosts hold of it is not checked any more.
    pub fn forget_truth_after(&mut self, key: &StreamKey, seq: usize) {
        if let Some(events) = self.truth.events.get_mut(key) {
            events.truncate(seq);
        }
    }

    /// Asks for a clean end of every session of a host.
    pub fn finish(&mut self, h: usize) {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        for id in host.sessions.keys() {
            if let Some(n) = &mut host.node {
                n.finish(now, *id);
            }
        }
        self.wake(h, 0);
    }

    /// Sessions still open at a host.
    #[must_use]
    pub fn sessions(&self, h: usize) -> usize {
        self.hosts[h].sessions.len()
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

    /// Does what is due next, but nothing later than `until`.
    fn step(&mut self, until: u64) -> bool {
        if self.due.peek().is_none_or(|Reverse((us, ..))| *us > until) {
            return false;
        }
        let Some(Reverse((us, _, due))) = self.due.pop() else { return false };
        self.now_us = self.now_us.max(us);
        self.counts.steps += 1;
        match due {
            Due::Wake(h) => self.pump(h),
            Due::Land(c, e) => {
                let bytes = self.conns[c].ends[e].land();
                let host = self.conns[c].ends[e].host;
                let cut = self.conns[c].cut;
                let other = &self.conns[c].ends[1 - e];
                if !cut && !other.closed {
                    let h = other.host;
                    self.conns[c].ends[1 - e].rx.extend_from_slice(&bytes);
                    self.truth.note(format_args!("{us} land {c} {e} {}", bytes.len()));
                    self.pump(h);
                }
                self.wake(host, 0);
            }
            Due::Eof(c, e) => {
                let other = &mut self.conns[c].ends[1 - e];
                other.eof = true;
                let h = other.host;
                self.pump(h);
            }
            Due::Provisioned(h, boot, segment) => self.provisioned(h, boot, segment),
            Due::Synced(h, boot, upto) => self.synced(h, boot, upto),
            Due::Told(h, boot, upto) => {
                if self.hosts[h].boot == boot {
                    self.tell(h, Completion::Durable { upto });
                }
            }
            Due::Append(h) => self.append_next(h),
            Due::Dial(h) => self.dial(h),
            Due::Cut(c) => {
                let noticed = self.rng.one_in(2);
                self.cut_conn(c, noticed);
            }
            Due::Crash(h) => {
                if self.hosts[h].node.is_some() {
                    self.crash(h);
                    let off = self.rng.between(1, 20_000) * 1000;
                    self.at(off, Due::Start(h));
                }
            }
            Due::Start(h) => {
                if self.hosts[h].node.is_none() {
                    self.start(h, true);
                    self.at(1000, Due::Dial(h));
                }
            }
        }
        true
    }

    fn append_next(&mut self, h: usize) {
        if self.hosts[h].node.is_none() {
            return;
        }
        let Some((lane, kind, payload)) = self.hosts[h].backlog.pop_front() else { return };
        match self.append(h, lane, kind, &payload) {
            Ok(_) => {}
            Err(e) => {
                self.hosts[h].refused = Some(e.code());
                if e.code() != Code::Storage {
                    self.hosts[h].backlog.push_front((lane, kind, payload));
                }
            }
        }
        if !self.hosts[h].backlog.is_empty() {
            let pause = if self.rng.one_in(20) { 2_000_000 } else { 20_000 };
            let after = self.rng.below(pause);
            self.at(after, Due::Append(h));
        }
        self.at(1000, Due::Dial(h));
    }

    fn dial(&mut self, h: usize) {
        let wanted = self.auto_dial
            && h > 0
            && self.hosts[h].node.is_some()
            && self.hosts[h].sessions.is_empty()
            && !self.holds_all_of(0, h);
        if wanted && self.connect(h, 0).is_none() {
            self.at(5_000_000, Due::Dial(h));
        }
    }
}
