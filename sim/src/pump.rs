//! What a runtime does: serve one node until it has nothing more to say, in any order.

use ropeway_core::event::Records;
use ropeway_core::id::StreamKey;
use ropeway_core::node::{Completion, Effect, Event, Flow, ReadFault, SessionId, Transmit};
use ropeway_core::policy::Role;

use crate::tap::Said;
use crate::world::{Due, Mutant, World};

/// More rounds than this in one instant are a spin.
const ROUNDS_MAX: u32 = 20_000;
/// How long a runtime tries to get the last frame of a session out.
const LINGER_US: u64 = 5_000_000;

impl World {
    /// Serves host `h` until nothing moves any more.
    pub(crate) fn pump(&mut self, h: usize) {
        for round in 0.. {
            if self.hosts[h].node.is_none() || self.truth.failed.is_some() {
                return;
            }
            if round > ROUNDS_MAX {
                return self.truth.fail(format!("host {h} never comes to rest"));
            }
            let mut moved = false;
            let first = self.rng.below(5);
            for k in 0..5 {
                moved |= match (first + k) % 5 {
                    0 => self.effects(h),
                    1 => self.transmit(h),
                    2 => self.feed(h),
                    3 => self.events(h),
                    _ => self.timeout(h),
                };
            }
            if !moved {
                break;
            }
        }
        let host = &mut self.hosts[h];
        let Some(node) = &host.node else { return };
        if let Some((at, reason)) = node.poll_timeout() {
            let now_ms = self.now_us / 1000;
            if at.0 <= now_ms {
                return self.truth.fail(format!("host {h}: {reason:?} is due at {} and it is {now_ms}", at.0));
            }
            if at.0 * 1000 < host.wake_us || host.wake_us <= self.now_us {
                host.wake_us = at.0 * 1000;
                let late = if self.rng.one_in(20) { self.rng.below(2_000_000) } else { self.rng.below(2000) };
                self.due_at(at.0 * 1000 + late, Due::Wake(h));
            }
        }
    }

    fn timeout(&mut self, h: usize) -> bool {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        let Some(node) = &mut host.node else { return false };
        let due = node.poll_timeout().is_some_and(|(at, _)| at <= now.at);
        if due || self.rng.one_in(8) {
            node.timeout(now);
        }
        due
    }

    fn effects(&mut self, h: usize) -> bool {
        let (us, boot) = (self.now_us, self.hosts[h].boot);
        let host = &mut self.hosts[h];
        let now = host.now(us);
        let Some(node) = &mut host.node else { return false };
        match node.poll_effect(now) {
            None => return false,
            Some(Effect::Provision { segment }) => {
                let after = self.rng.between(1, self.sync_ms.max(1)) * 1000;
                self.at(after, Due::Provisioned(h, boot, segment));
            }
            Some(Effect::Append { group, at, bytes }) => {
                let bytes = bytes.to_vec();
                let runs = host.runs();
                host.writing =
                    runs.iter().filter_map(|r| Some((host.node.as_ref()?.stream(r.stream)?.key, r.last_seq))).collect();
                host.runs = runs;
                if !host.disk.holds(at.segment, at.offset, bytes.len()) {
                    self.truth.fail(format!("host {h} writes outside of segment {}", at.segment));
                }
                let Some((salt, page)) = host.frame_in(at.offset, &bytes) else {
                    self.truth.fail(format!("host {h} writes a frame without a header since it was started"));
                    return false;
                };
                self.truth.sealed(salt, page);
                let failed = host.store.as_mut().and_then(|s| s.append(at, &bytes));
                if let (Some(failed), Some(node)) = (failed, &mut host.node) {
                    node.complete(now, failed);
                }
                self.truth.note(format_args!("{us} write {h} group {group} {}:{page} {}", at.segment, bytes.len()));
            }
            Some(Effect::Sync { upto }) => {
                let slow = if self.rng.one_in(50) { 500 } else { self.sync_ms.max(1) };
                let after = self.rng.between(1, slow) * 1000;
                if self.mutant == Mutant::DurableWithoutSync {
                    self.at(0, Due::Told(h, boot, upto));
                    self.at(after, Due::Synced(h, boot, upto));
                } else {
                    self.at(after, Due::Synced(h, boot, upto));
                }
            }
        }
        true
    }

    pub(crate) fn provisioned(&mut self, h: usize, boot: u32, segment: u64) {
        let host = &mut self.hosts[h];
        if host.boot != boot || host.node.is_none() {
            return;
        }
        host.disk.measure_room();
        let Some(done) = host.store.as_mut().map(|s| s.provision(segment)) else { return };
        self.tell(h, done);
    }

    pub(crate) fn synced(&mut self, h: usize, boot: u32, upto: u64) {
        let host = &mut self.hosts[h];
        if host.boot != boot || host.node.is_none() {
            return;
        }
        if std::mem::take(&mut host.fail_sync) {
            host.disk.fail_sync(&mut self.rng);
        }
        if self.mutant == Mutant::SyncForgetsSector {
            host.disk.forget_sector();
        }
        let runs = std::mem::take(&mut host.runs);
        let Some(done) = host.store.as_mut().map(|s| s.sync(upto, &runs)) else { return };
        if !matches!(done, Completion::Durable { .. }) {
            return self.tell(h, done);
        }
        for (key, seq) in std::mem::take(&mut host.writing) {
            host.synced.insert(key, seq.max(host.has_synced(&key)));
        }
        host.synced.retain(|_, seq| *seq > 0);
        host.promised.clone_from(&host.synced);
        self.truth.note(format_args!("{} synced {h} {upto}", self.now_us));
        self.at(1000, Due::Dial(h));
        if self.rng.one_in(10) {
            // The word arrives late, and twice.
            let late = self.rng.below(300_000);
            self.at(late, Due::Told(h, boot, upto));
            self.at(late + 1000, Due::Told(h, boot, upto));
        } else {
            self.tell(h, Completion::Durable { upto });
        }
    }

    pub(crate) fn tell(&mut self, h: usize, completion: Completion) {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        if let Some(node) = &mut host.node {
            node.complete(now, completion);
            self.pump(h);
        }
    }

    fn events(&mut self, h: usize) -> bool {
        let us = self.now_us;
        let mut moved = false;
        while let Some(event) = self.hosts[h].node.as_mut().and_then(ropeway_core::node::Node::poll_event) {
            moved = true;
            let host = &mut self.hosts[h];
            match event {
                Event::CaughtUp { .. } => host.caught_up += 1,
                Event::Closed { session, ending, stats } => {
                    self.truth.note(format_args!("{us} closed {h} {ending:?}"));
                    self.counts.sent += stats.sent;
                    host.endings.push(ending);
                    match host.opened.get_mut(&session) {
                        Some(times) => *times += 1,
                        None => self.truth.fail(format!("host {h}: a session that was never opened is closed")),
                    }
                    if host.opened.get(&session).is_some_and(|n| *n > 1) {
                        self.truth.fail(format!("host {h}: a session was closed twice"));
                    }
                    if let Some(&(c, e)) = host.sessions.get(&session) {
                        self.conns[c].ends[e].linger_us = us + LINGER_US;
                        self.wake(h, LINGER_US);
                    }
                    let again = self.rng.between(1, 5_000) * 1000;
                    self.at(again, Due::Dial(h));
                }
                other => host.told.push(other),
            }
        }
        moved
    }

    fn feed(&mut self, h: usize) -> bool {
        let mut moved = false;
        while let Some(id) = self.hosts[h].node.as_mut().and_then(ropeway_core::node::Node::poll_resumed) {
            moved = true;
            if let Some(&(c, e)) = self.hosts[h].sessions.get(&id) {
                self.conns[c].ends[e].paused = false;
            }
        }
        let all: Vec<(SessionId, (usize, usize))> = self.hosts[h].sessions.iter().map(|(i, p)| (*i, *p)).collect();
        for (id, (c, e)) in all {
            let host = &mut self.hosts[h];
            let now = host.now(self.now_us);
            let end = &mut self.conns[c].ends[e];
            if end.paused {
                continue;
            }
            if end.rx.is_empty() {
                if end.eof {
                    self.drop_end(c, e);
                    moved = true;
                }
                continue;
            }
            let most = if self.rng.one_in(10) { 3 } else { end.rx.len() as u64 };
            let n = self.rng.between(1, most).min(end.rx.len() as u64) as usize;
            let Some(node) = &mut host.node else { return false };
            moved = true;
            match node.receive(now, id, &end.rx[..n]) {
                Ok(r) => {
                    end.rx.drain(..r.consumed);
                    match r.flow {
                        Flow::Open if r.consumed == 0 => self.truth.fail("bytes are neither taken nor refused"),
                        Flow::Open => {}
                        Flow::Paused => end.paused = true,
                        Flow::Closed => end.rx.clear(),
                    }
                }
                Err(_) => self.drop_end(c, e),
            }
        }
        moved
    }

    fn transmit(&mut self, h: usize) -> bool {
        let mut moved = false;
        while let Some(id) = self.hosts[h].node.as_mut().and_then(ropeway_core::node::Node::poll_ready) {
            moved = true;
            if let Some(&(c, e)) = self.hosts[h].sessions.get(&id) {
                self.conns[c].ends[e].ready = true;
            }
        }
        let all: Vec<(SessionId, (usize, usize))> = self.hosts[h].sessions.iter().map(|(i, p)| (*i, *p)).collect();
        for (id, (c, e)) in all {
            moved |= self.flush(c, e);
            let now = self.hosts[h].now(self.now_us);
            let end = &mut self.conns[c].ends[e];
            if end.linger_us <= self.now_us {
                self.drop_end(c, e);
                moved = true;
                continue;
            }
            if !end.flushed() || !(end.ready || end.read.is_some_and(|(_, at)| at <= self.now_us)) {
                continue;
            }
            moved = true;
            let mut buf = vec![0; self.hosts[h].limits.frame_bytes + 64];
            let outcome = if let Some((request, _)) = end.read.take_if(|(_, at)| *at <= self.now_us) {
                end.ready = true;
                self.answer(h, &request, &mut buf)
            } else {
                let Some(node) = &mut self.hosts[h].node else { return false };
                let Ok(outcome) = node.poll_transmit(now, id, &mut buf) else {
                    self.drop_end(c, e);
                    continue;
                };
                let end = &mut self.conns[c].ends[e];
                end.ready = matches!(outcome, Transmit::Bytes(_));
                outcome
            };
            match outcome {
                Transmit::Idle => {}
                Transmit::Bytes(n) => {
                    self.check_sent(c, e, &buf[..n]);
                    let end = &mut self.conns[c].ends[e];
                    (end.out, end.out_at) = (buf[..n].to_vec(), 0);
                    self.flush(c, e);
                }
                Transmit::Read(request) => {
                    let after = self.rng.below(3000);
                    self.conns[c].ends[e].read = Some((request, self.now_us + after));
                    self.wake(h, after);
                }
                Transmit::Close => self.drop_end(c, e),
            }
        }
        moved
    }

    fn answer(&mut self, h: usize, request: &ropeway_core::node::ReadRequest, buf: &mut [u8]) -> Transmit {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        let Some(store) = &mut host.store else { return Transmit::Idle };
        let mut bytes = Vec::new();
        let chain = store.read_records(request, &mut bytes).map_err(|e| ReadFault(e.code));
        if let (Some(last), Mutant::ReaderAltersPayload) = (bytes.last_mut(), self.mutant) {
            *last ^= 1;
        }
        let Some(node) = &mut host.node else { return Transmit::Idle };
        let records = chain.map(|prev_chain| Records { first_seq: request.from_seq, prev_chain, bytes: &bytes });
        node.complete_read(now, request, records, buf)
    }

    /// Moves bytes into the link while it takes them.
    fn flush(&mut self, c: usize, e: usize) -> bool {
        let mut moved = false;
        loop {
            let conn = &mut self.conns[c];
            let peer_rx = conn.ends[1 - e].rx.len();
            let profile = conn.profile;
            let Some(at) = conn.ends[e].write(self.now_us, &profile, peer_rx, &mut self.rng) else { return moved };
            moved = true;
            self.due_at(at, Due::Land(c, e));
        }
    }

    /// Holds what a node sends against the truth.
    fn check_sent(&mut self, c: usize, e: usize, bytes: &[u8]) {
        let (from, to) = (self.conns[c].ends[e].host, self.conns[c].ends[1 - e].host);
        let (a, b) = (self.hosts[from].config.name, self.hosts[to].config.name);
        let own_only = self.hosts[to].config.role == Role::Clinic;
        if self.hosts[from].config.role == Role::Hub {
            self.counts.bytes_down += bytes.len() as u64;
        } else {
            self.counts.bytes_up += bytes.len() as u64;
        }
        self.truth.note(format_args!("{} send {c} {e} {}", self.now_us, bytes.len()));
        if own_only && from == 0 {
            for other in self.hosts.iter().filter(|x| x.config.name != b && x.config.role == Role::Clinic) {
                let name = other.config.name.as_str().as_bytes();
                if bytes.windows(name.len()).any(|w| w == name) {
                    self.truth.fail(format!("{b} was sent the name of {}", other.config.name));
                }
            }
        }
        for said in self.conns[c].ends[e].tap.hear(bytes, &a, &b) {
            let told = |key: &StreamKey, seq: u64, what: &str| {
                let synced = self.hosts[from].has_synced(key);
                (seq > synced).then(|| format!("{a} {what} {key} up to {seq}, synced is {synced}"))
            };
            let wrong = match &said {
                Said::Entry(key, _) if own_only && from == 0 && key.node != b => {
                    Some(format!("{b} was told of the stream {key}"))
                }
                Said::Entry(key, seq) => told(key, *seq, "tells of"),
                Said::Batch { key, first, events } => {
                    self.truth.check(a.as_str(), key, *first, events);
                    told(key, first + events.len() as u64 - 1, "sends")
                }
                Said::Ack(handle, seq) => match self.conns[c].ends[1 - e].tap.handles.get(*handle as usize) {
                    Some(key) => told(key, *seq, "acknowledges"),
                    None => Some(format!("{a} acknowledges a stream that it was not told of")),
                },
                Said::Nonsense(why) => Some(format!("{a} sends nonsense: {why}")),
                Said::Error(_) | Said::Control(_) => None,
            };
            if let Some(wrong) = wrong {
                self.truth.fail(wrong);
            }
            if self.listening {
                self.truth.note(format_args!("    {a} -> {b} {}", short(&said)));
                self.said.push((from, to, said));
            }
        }
    }
}

fn short(said: &Said) -> String {
    match said {
        Said::Batch { key, first, events } => format!("batch {key} {first} +{}", events.len()),
        other => format!("{other:?}"),
    }
}
