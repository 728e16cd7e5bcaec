//! What happens next.

use std::cmp::Reverse;

use ropeway_core::code::Code;
use ropeway_core::node::Completion;

use crate::check::Check;
use crate::fault::Fault;
use crate::mutant::Mutant;
use crate::timeline::Moment;
use crate::world::World;

/// A run of a swarm takes some thousands, one of 100,000 events some millions.
const STEPS_MAX: u64 = 50_000_000;

/// What will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Wake(usize),
    Land(usize, usize),
    Eof(usize, usize),
    Provisioned(usize, u32, u64),
    Synced(usize, u32, u64),
    Read(usize, u32),
    Told(usize, u32, u64),
    Append(usize),
    Dial(usize),
    Cut(usize),
    Crash(usize),
    Start(usize),
    Pipe(usize),
    Bury(usize),
    Impatient(usize),
    Bright(usize),
    Thaw(usize),
    Tick(usize),
    Strike(Fault, usize),
    Mend(Fault, usize),
}

impl World {
    /// Does what is due next, but nothing later than `until`.
    pub(crate) fn step(&mut self, until: u64) -> bool {
        if self.due.peek().is_none_or(|Reverse((us, ..))| *us > until) {
            return false;
        }
        let Some(Reverse((us, _, due))) = self.due.pop() else { return false };
        self.now_us = self.now_us.max(us);
        self.counts.steps += 1;
        if self.counts.steps > STEPS_MAX {
            self.truth.fail(Check::Rest, format!("the world has made {STEPS_MAX} steps and is not done"));
        }
        match due {
            Due::Wake(h) => self.pump(h),
            Due::Land(c, e) => self.land(c, e),
            Due::Eof(c, e) => {
                let other = &mut self.conns[c].ends[1 - e];
                other.eof = true;
                let h = other.host;
                self.pump(h);
            }
            Due::Provisioned(h, boot, segment) => self.provisioned(h, boot, segment),
            Due::Synced(h, boot, upto) => self.synced(h, boot, upto),
            Due::Read(h, boot) => self.read_for_batch(h, boot),
            Due::Told(h, boot, upto) => {
                if self.hosts[h].boot == boot {
                    self.tell(h, Completion::Durable { upto });
                }
            }
            Due::Append(h) => self.append_next(h),
            Due::Dial(h) => self.dial(h),
            // A connection that has ended by itself is not cut any more.
            Due::Cut(c) if self.conns[c].cut || !self.faults.has(Fault::Cut) => {}
            Due::Cut(c) => {
                let noticed = self.rng.one_in(2);
                self.cut_conn(c, noticed);
                if self.profile.dark_ms > 0 && self.rng.one_in(2) {
                    let h = self.conns[c].ends[0].host;
                    let ms = self.rng.between(1, 2 * self.profile.dark_ms);
                    self.darken(h, ms);
                }
            }
            Due::Crash(h) => {
                if self.hosts[h].node.is_some() {
                    self.crash(h);
                    self.hosts[h].disk.heal();
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
            Due::Thaw(h) => {
                self.hosts[h].frozen = false;
                for c in 0..self.conns.len() {
                    if self.conns[c].ends.iter().any(|e| e.host == h) {
                        self.at_pipe(c, self.now_us);
                    }
                }
                self.pump(h);
            }
            Due::Pipe(c) => self.serve_pipe(c),
            Due::Bury(c) => self.bury(c),
            Due::Impatient(c) => self.lose_patience(c),
            Due::Bright(h) => self.brighten(h),
            Due::Tick(h) => self.tick(h),
            Due::Strike(fault, h) => self.strike(fault, h),
            Due::Mend(fault, h) => self.mend(fault, h),
        }
        true
    }

    fn land(&mut self, c: usize, e: usize) {
        let us = self.now_us;
        let mut bytes = self.conns[c].ends[e].land();
        match self.mutant {
            Mutant::PieceLost if us.is_multiple_of(97) => bytes.clear(),
            Mutant::PieceTwice if us.is_multiple_of(97) => bytes.extend_from_within(..),
            _ => {}
        }
        let host = self.conns[c].ends[e].host;
        let cut = self.conns[c].cut;
        let other = &self.conns[c].ends[1 - e];
        if !cut && !other.closed {
            let h = other.host;
            self.conns[c].ends[1 - e].rx.extend_from_slice(&bytes);
            self.truth.note(format_args!("{us} land {c} {e} {}", bytes.len()));
            self.crash_point("a landing");
            self.pump(h);
        }
        self.wake(host, 0);
    }

    /// The link of a host is dead for so long.
    pub(crate) fn darken(&mut self, h: usize, ms: u64) {
        let until = self.now_us + ms * 1000;
        self.hosts[h].dark_us = until;
        self.moment(h, Moment::Dark(until / 1000));
        self.truth.note(format_args!("{} dark {h} {ms}", self.now_us));
        for c in 0..self.conns.len() {
            let conn = &mut self.conns[c];
            if conn.ends[0].host != h || conn.cut {
                continue;
            }
            match &mut conn.pipe {
                // TCP notices by itself, or outlasts it.
                Some(pipe) => pipe.cut(),
                None => self.cut_conn(c, false),
            }
        }
        self.due_at(until, Due::Bright(h));
    }

    /// A dead link lives again.
    fn brighten(&mut self, h: usize) {
        if self.hosts[h].dark_us > self.now_us {
            return;
        }
        for c in 0..self.conns.len() {
            let conn = &mut self.conns[c];
            if let Some(pipe) = conn.pipe.as_mut().filter(|_| conn.ends[0].host == h && !conn.cut) {
                pipe.heal();
                self.at_pipe(c, self.now_us);
            }
        }
        self.at(1000, Due::Dial(h));
    }

    /// What a timer does on a real machine: nothing waits for ever because a moment was missed.
    fn tick(&mut self, h: usize) {
        if !self.auto_dial {
            return;
        }
        if self.hosts[h].append_at_us < self.now_us {
            self.append_next(h);
        }
        self.dial(h);
        let again_ms = if self.profile.dark_ms > 3_600_000 { 3_600_000 } else { 60_000 };
        self.at(again_ms * 1000, Due::Tick(h));
    }

    fn append_next(&mut self, h: usize) {
        self.hosts[h].append_at_us = 0;
        let host = &self.hosts[h];
        if host.node.is_none() || host.frozen || host.hold {
            return;
        }
        let Some((lane, kind, payload)) = self.hosts[h].backlog.pop_front() else { return };
        let mut wait_us = 100;
        match self.append(h, lane, kind, &payload) {
            Ok(_) => {}
            Err(e) => {
                let code = e.code();
                let disk = &self.hosts[h].disk;
                let reason = match code {
                    Code::Busy => true,
                    Code::DiskFull => !disk.has_room() || self.hosts[h].was_full,
                    Code::ReadOnly | Code::Storage => self.hosts[h].disk_failed,
                    _ => false,
                };
                self.truth.hold(Check::Refusal, reason, || format!("host {h}: an append was refused: {code}"));
                // Nobody asks a full disk fifty times a second.
                wait_us = if code == Code::Busy { 100 } else { 5_000_000 };
                self.hosts[h].refused = Some(code);
                // A runtime asks the node what the disk is to do, whatever became of the append.
                self.wake(h, 0);
                self.hosts[h].backlog.push_front((lane, kind, payload));
            }
        }
        if !self.hosts[h].backlog.is_empty() {
            let pause = if self.rng.one_in(20) { 2_000_000 } else { 20_000 };
            let after = self.rng.below(pause) + wait_us;
            self.hosts[h].append_at_us = self.now_us + after;
            self.at(after, Due::Append(h));
        }
        self.at(1000, Due::Dial(h));
    }

    fn dial(&mut self, h: usize) {
        let host = &self.hosts[h];
        if host.dark_us > self.now_us {
            return;
        }
        let wanted = self.auto_dial
            && h > 0
            && host.node.is_some()
            && host.sessions.is_empty()
            && host.dialling.is_none()
            && (host.hold || !self.is_level_with_hub(h));
        if wanted && !self.dial_hub(h) {
            self.at(5_000_000, Due::Dial(h));
        }
    }
}
