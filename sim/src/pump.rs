//! What a runtime does: serve one node until it has nothing more to say, in any order.

use ropeway_core::event::Records;
use ropeway_core::node::{Completion, Effect, Event, Flow, ReadFault, SessionId, Transmit};

use crate::check::Check;
use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::step::Due;
use crate::world::World;

/// More rounds than this in one instant are a spin.
const ROUNDS_MAX: u32 = 20_000;
/// How long a runtime tries to get the last frame of a session out.
const LINGER_US: u64 = 5_000_000;

impl World {
    /// Serves host `h` until nothing moves any more.
    pub(crate) fn pump(&mut self, h: usize) {
        for round in 0.. {
            if self.hosts[h].node.is_none() || self.hosts[h].frozen || self.truth.failed.is_some() {
                return;
            }
            if round > ROUNDS_MAX {
                return self.truth.fail(Check::Rest, format!("host {h} never comes to rest"));
            }
            let mut moved = false;
            let first = if self.faults.has(Fault::Chunks) { self.rng.below(5) } else { 0 };
            for k in 0..5 {
                moved |= match (first + k) % 5 {
                    0 => self.effects(h),
                    1 => self.transmit(h),
                    2 => self.feed(h),
                    3 => self.events(h),
                    _ => self.timeout(h),
                };
            }
            moved |= self.repair(h);
            if !moved {
                break;
            }
        }
        let host = &mut self.hosts[h];
        let Some(node) = &host.node else { return };
        if let Some((at, reason)) = node.poll_timeout() {
            let now_ms = self.now_us / 1000;
            let ahead = at.0 > now_ms;
            let what = || format!("host {h}: {reason:?} is due at {} and it is {now_ms}", at.0);
            self.truth.hold(Check::Rest, ahead, what);
            if !ahead {
                return;
            }
            if at.0 * 1000 < host.wake_us || host.wake_us <= self.now_us {
                host.wake_us = at.0 * 1000;
                let very = self.faults.has(Fault::LateWord) && self.rng.one_in(20);
                let late = self.rng.below(if very { 2_000_000 } else { 2000 });
                self.due_at(at.0 * 1000 + late, Due::Wake(h));
            }
        }
    }

    fn timeout(&mut self, h: usize) -> bool {
        let host = &mut self.hosts[h];
        let now = host.now(self.now_us);
        let Some(node) = &mut host.node else { return false };
        let due = node.poll_timeout().is_some_and(|(at, _)| at <= now.at);
        if due || self.faults.has(Fault::LateWord) && self.rng.one_in(8) {
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
                if self.mutant == Mutant::ProvisionedEarly {
                    node.complete(now, Completion::Provisioned { segment });
                }
                let after = self.rng.between(1, self.sync_ms.max(1)) * 1000;
                self.at(after, Due::Provisioned(h, boot, segment));
            }
            Some(Effect::Read(request)) => {
                host.reads.push_back(request);
                let after = self.rng.below(3000);
                self.at(after, Due::Read(h, boot));
            }
            Some(Effect::Append { group, at, bytes }) => {
                let bytes = bytes.to_vec();
                let runs = host.runs();
                host.writing =
                    runs.iter().filter_map(|r| Some((host.node.as_ref()?.stream(r.stream)?.key, r.last_seq))).collect();
                host.runs = runs;
                if !host.disk.holds(at.segment, at.offset, bytes.len()) {
                    self.truth.fail(Check::LogOpens, format!("host {h} writes outside of segment {}", at.segment));
                }
                let Some((salt, page)) = host.frame_in(at.offset, &bytes) else {
                    self.truth.fail(
                        Check::LogOpens,
                        format!("host {h} writes a frame without a header since it was started"),
                    );
                    return false;
                };
                self.truth.sealed(salt, page, &bytes);
                let used = host.disk.used_before(at.segment, at.offset, bytes.len());
                self.truth.hold(Check::NeverOverwritten, used.is_none(), || {
                    let page = used.unwrap_or_default();
                    format!("host {h} writes over page {page} of segment {}, which is in use", at.segment)
                });
                let failed = host.store.as_mut().and_then(|s| s.append(at, &bytes));
                if let (Some(failed), Some(node)) = (failed, &mut host.node) {
                    node.complete(now, failed);
                }
                self.truth.note(format_args!("{us} write {h} group {group} {}:{page} {}", at.segment, bytes.len()));
                self.crash_point("an append");
            }
            Some(Effect::Sync { upto }) => {
                let stuck = self.faults.has(Fault::SlowDisk) && self.rng.one_in(10);
                let slow = if stuck { 5_000 } else { self.sync_ms.max(1) };
                if stuck {
                    self.struck(Fault::SlowDisk);
                }
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

    /// The next read that a batch at a host waits for.
    pub(crate) fn read_for_batch(&mut self, h: usize, boot: u32) {
        if self.hosts[h].boot == boot
            && let Some(request) = self.hosts[h].reads.pop_front()
        {
            self.answer(h, &request, &mut []);
            self.pump(h);
        }
    }

    pub(crate) fn provisioned(&mut self, h: usize, boot: u32, segment: u64) {
        let host = &mut self.hosts[h];
        if host.boot != boot || host.node.is_none() {
            return;
        }
        host.disk.measure_room();
        let Some(done) = host.store.as_mut().map(|s| s.provision(segment)) else { return };
        self.crash_point("a provision");
        self.tell(h, done);
    }

    pub(crate) fn synced(&mut self, h: usize, boot: u32, upto: u64) {
        let host = &mut self.hosts[h];
        if host.boot != boot || host.node.is_none() {
            return;
        }
        if std::mem::take(&mut host.fail_sync) {
            host.disk_failed = true;
            host.disk.fail_sync(&mut self.rng);
        }
        if self.mutant == Mutant::SyncForgetsSector {
            host.disk.forget_sector();
        }
        let runs = std::mem::take(&mut host.runs);
        let Some(mut done) = host.store.as_mut().map(|s| s.sync(upto, &runs)) else { return };
        if self.mutant == Mutant::SyncRetried && !matches!(done, Completion::Durable { .. }) {
            done = Completion::Durable { upto };
        }
        if !matches!(done, Completion::Durable { .. }) {
            host.disk_failed = true;
            return self.tell(h, done);
        }
        for (key, seq) in std::mem::take(&mut host.writing) {
            host.synced.insert(key, seq.max(host.has_synced(&key)));
        }
        host.synced.retain(|_, seq| *seq > 0);
        host.note_synced();
        host.promised.clone_from(&host.synced);
        host.seal(self.now_us);
        host.scrub(self.now_us);
        self.keep(h);
        self.truth.note(format_args!("{} synced {h} {upto}", self.now_us));
        self.crash_point("a sync");
        if h == 0 {
            self.note_durable();
            self.tell_the_others();
        }
        self.at(1000, Due::Dial(h));
        if self.faults.has(Fault::LateWord) && self.rng.one_in(10) {
            // The word arrives late, and twice.
            let late = self.rng.below(300_000);
            self.at(late, Due::Told(h, boot, upto));
            self.at(late + 1000, Due::Told(h, boot, upto));
        } else {
            self.tell(h, Completion::Durable { upto });
        }
    }

    /// Who reads more than its own dials when there is news at the hub, as a timer would make it do.
    fn tell_the_others(&mut self) {
        for h in 1..self.hosts.len() {
            let idle = self.hosts[h].node.is_some() && self.hosts[h].sessions.is_empty();
            if self.auto_dial && idle && !self.is_level_with_hub(h) {
                let after = self.rng.between(1, 5_000) * 1000;
                self.at(after, Due::Dial(h));
            }
        }
    }

    /// How many events of each clinic are durable at the hub, for the plot.
    fn note_durable(&mut self) {
        let ms = self.now_us / 1000;
        for h in 1..self.hosts.len() {
            let n = self.durable_events(0, h);
            let known = std::mem::replace(&mut self.hosts[h].at_hub, n);
            if n != known && self.hosts[h].clone_of.is_none() {
                self.timeline.durable.push((ms, h, n));
            }
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
                Event::CaughtUp { .. } => {
                    host.caught_up += 1;
                    host.book.poke();
                    host.failures = 0;
                    self.check_acked(h);
                    if std::mem::take(&mut self.hosts[h].hold) {
                        self.at(1000, Due::Append(h));
                    }
                }
                Event::Closed { session, ending, stats } => {
                    self.truth.note(format_args!("{us} closed {h} {ending:?}"));
                    self.counts.sent += stats.sent;
                    host.endings.push(ending);
                    host.failures = if ending.code.is_some() { host.failures + 1 } else { 0 };
                    let times = host.opened.get_mut(&session).map_or(0, |times| {
                        *times += 1;
                        *times
                    });
                    let what = || format!("host {h}: a session was closed that was closed before or never open");
                    self.truth.hold(Check::ClosedOnce, times == 1, what);
                    self.check_ending(h, session, &ending);
                    self.check_acked(h);
                    if let Some(&(c, e)) = self.hosts[h].sessions.get(&session) {
                        self.conns[c].ends[e].linger_us = us + LINGER_US;
                        self.wake(h, LINGER_US);
                    }
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
            if let Some(&(c, e)) = self.hosts[h].sessions.get(&id).filter(|_| self.mutant != Mutant::ResumeForgotten) {
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
            if end.rx.len() < crate::link::PIPE_BYTES && self.conns[c].pipe.is_some() {
                self.take_plain(c, e);
            }
            let host = &mut self.hosts[h];
            let end = &mut self.conns[c].ends[e];
            if end.rx.is_empty() {
                if end.eof {
                    self.drop_end(c, e);
                    moved = true;
                }
                continue;
            }
            let all = end.rx.len() as u64;
            let n = match self.faults.has(Fault::Chunks) {
                true if self.rng.one_in(10) => self.rng.between(1, 3).min(all),
                true => all - self.rng.below(all),
                false => all,
            } as usize;
            let Some(node) = &mut host.node else { return false };
            moved = true;
            match node.receive(now, id, &end.rx[..n]) {
                Ok(r) => {
                    end.rx.drain(..r.consumed);
                    match r.flow {
                        Flow::Open if r.consumed == 0 => {
                            self.truth.fail(Check::Rest, "bytes are neither taken nor refused")
                        }
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
                    self.crash_point("a transmit");
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

    pub(crate) fn answer(&mut self, h: usize, request: &ropeway_core::node::ReadRequest, buf: &mut [u8]) -> Transmit {
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
        let (us, faults) = (self.now_us, self.faults);
        loop {
            let conn = &mut self.conns[c];
            if conn.ends[e].refuses_until_us > us {
                return moved;
            }
            if let Some(pipe) = &mut conn.pipe {
                let end = &mut conn.ends[e];
                let n = pipe.write(e, &end.out[end.out_at..]);
                end.out_at += n;
                if n == 0 {
                    return moved;
                }
                let clinic = conn.ends[0].host;
                self.timeline.sent(us, clinic, e, n);
                self.at_pipe(c, us);
                moved = true;
                continue;
            }
            let peer_rx = conn.ends[1 - e].rx.len();
            let profile = conn.profile;
            let idle = profile.idle_kill_ms > 0
                && faults.has(Fault::IdleKill)
                && !conn.ends[e].flushed()
                && us > conn.last_us + profile.idle_kill_ms * 1000;
            if idle && !conn.cut {
                conn.cut = true;
                self.counts.strikes += 1;
                self.struck(Fault::IdleKill);
                self.truth.note(format_args!("{us} idle-kill {c}"));
            }
            let conn = &mut self.conns[c];
            let Some((at, n)) = conn.ends[e].write(us, &profile, e, faults, peer_rx, &mut self.rng) else {
                return moved;
            };
            conn.last_us = us;
            let clinic = conn.ends[0].host;
            self.timeline.sent(conn.ends[e].sent_us(), clinic, e, n);
            moved = true;
            self.due_at(at, Due::Land(c, e));
            if faults.has(Fault::Refusal) && self.rng.one_in(200) {
                let wait = self.rng.between(1, 90_000) * 1000;
                self.struck(Fault::Refusal);
                self.conns[c].ends[e].refuses_until_us = us + wait;
                let h = self.conns[c].ends[e].host;
                self.wake(h, wait + 1);
            }
        }
    }
}
