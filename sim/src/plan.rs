//! Faults that strike at an instant, and their end.
//!
//! The *atlas*: what one side loses for good the other must hold, or no engine could bring it back.
//! So in one run either the hub's disk suffers or the clinics' disks do, and a clinic's only while
//! the hub holds all that it has. A run with [`hostile_disk`](crate::Options::hostile_disk) leaves
//! the atlas; then only "detected, and never falsely acknowledged" is asked.

use ropeway_core::policy::Role;

use crate::fault::Fault;
use crate::host::EPOCH_MS;
use crate::options::Stack;
use crate::step::Due;
use crate::timeline::{COPY, Moment};
use crate::world::World;

/// Most copied cards in a run.
const CLONES_MAX: usize = 2;

impl World {
    /// Draws what will strike whom within `span_ms`.
    pub(crate) fn plan(&mut self, span_ms: u64) {
        self.hub_suffers = self.rng.one_in(2);
        if self.faults.has(Fault::SlowDisk) {
            self.sync_ms = [20, 400, 3_000][self.rng.below(3) as usize];
        }
        if self.faults.has(Fault::Crash) && self.rng.one_in(2) {
            self.hosts.iter_mut().for_each(|x| x.disk.leave_garbage(true));
        }
        for fault in self.faults.iter() {
            for h in 0..self.hosts.len() {
                match fault {
                    Fault::Drift => self.hosts[h].drift_ppm = self.rng.below(400) as i64 - 200,
                    // A hub judges certificates by its clock: with a wrong one nobody gets in.
                    Fault::WrongClock if self.stack == Stack::Full && h == 0 => {}
                    Fault::WrongClock => {
                        self.hosts[h].wall_ahead_ms = match self.rng.below(4) {
                            1 => -(EPOCH_MS as i64),
                            2 => 73 * 365 * 86_400_000,
                            3 => -86_400_000,
                            _ => 0,
                        };
                        if self.hosts[h].wall_ahead_ms != 0 {
                            self.struck(fault);
                        }
                    }
                    // These go on all the time, see `link` and `pump`.
                    Fault::Cut
                    | Fault::Stall
                    | Fault::IdleKill
                    | Fault::SlowDisk
                    | Fault::Chunks
                    | Fault::LateWord
                    | Fault::Refusal => {}
                    _ => {
                        for _ in 0..self.rng.below(3) {
                            let at = self.rng.below(span_ms) * 1000;
                            self.at(at, Due::Strike(fault, h));
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault, h: usize) {
        let struck = match fault {
            Fault::Crash => {
                self.at(0, Due::Crash(h));
                true
            }
            Fault::Kill => {
                let runs = self.hosts[h].node.is_some();
                if runs {
                    self.stop(h);
                    let off = self.rng.between(1, 20_000) * 1000;
                    self.at(off, Due::Start(h));
                }
                runs
            }
            Fault::Blackout => {
                let most_ms = if self.rng.one_in(5) { 3 * 86_400_000 } else { 120_000 };
                let ms = self.rng.between(1, most_ms);
                self.darken(h, ms);
                true
            }
            Fault::Duplicate => h > 0 && self.hosts[h].node.is_some() && self.dial_hub(h),
            Fault::Freeze => {
                self.hosts[h].frozen = true;
                let ms = self.rng.between(1, 120_000);
                self.at(ms * 1000, Due::Thaw(h));
                true
            }
            Fault::ClockStep if self.stack == Stack::Full && h == 0 => false,
            Fault::ClockStep => {
                let step_ms = [1_000, 3_600_000, 2 * 86_400_000, 10 * 365 * 86_400_000][self.rng.below(4) as usize];
                let back = self.rng.one_in(2);
                let host = &mut self.hosts[h];
                host.wall_seen_ms = host.wall_seen_ms.max(host.now(self.now_us).wall_ms);
                let ahead = &mut host.wall_ahead_ms;
                *ahead = ahead.saturating_add(if back { -step_ms } else { step_ms });
                true
            }
            Fault::FullDisk => {
                let host = &mut self.hosts[h];
                host.was_full = true;
                host.disk.segments_max = host.disk.segments().len();
                let ms = self.rng.between(1, 60_000);
                self.at(ms * 1000, Due::Mend(fault, h));
                true
            }
            Fault::FailedSync => {
                let host = &mut self.hosts[h];
                match self.rng.below(4) {
                    0 | 1 => host.fail_sync = true,
                    2 => host.disk.fail_writes(1),
                    _ => host.disk.make_read_only(true),
                }
                host.disk_failed = true;
                let ms = self.rng.between(1, 60_000);
                self.at(ms * 1000, Due::Crash(h));
                true
            }
            Fault::Rot | Fault::ReadError => self.may_suffer(h) && self.damage(fault, h),
            Fault::Misdirect | Fault::LyingSync => {
                (self.hostile_disk || self.hub_suffers && h == 0) && self.damage(fault, h)
            }
            Fault::Restore => self.restore(h),
            Fault::Clone => self.copy_card(h),
            Fault::Hostile => h == 0 && self.attack(),
            _ => false,
        };
        if struck {
            self.counts.strikes += 1;
            self.struck(fault);
            self.truth.note(format_args!("{} {} {h}", self.now_us, fault.name()));
            if !matches!(fault, Fault::Crash | Fault::Blackout) {
                self.moment(h, Moment::Fault(fault));
            }
        }
    }

    pub(crate) fn mend(&mut self, fault: Fault, h: usize) {
        match fault {
            Fault::FullDisk => self.hosts[h].disk.segments_max = usize::MAX,
            _ => self.hosts[h].disk.heal(),
        }
        self.truth.note(format_args!("{} mend {} {h}", self.now_us, fault.name()));
    }

    /// Whether events on this host's disk may be lost now without being lost for good.
    fn may_suffer(&self, h: usize) -> bool {
        if self.hostile_disk {
            return true;
        }
        match (self.hub_suffers, self.hosts[h].config.role) {
            (true, _) => h == 0,
            (false, Role::Hub) => false,
            (false, Role::Clinic) => self.holds_all_of(0, h) && self.hosts[h].writing.is_empty(),
        }
    }

    /// Does something to a disk that only reading or a crash will show.
    fn damage(&mut self, fault: Fault, h: usize) -> bool {
        let host = &mut self.hosts[h];
        let done = match fault {
            Fault::Rot => {
                // A torn write looks like rot in the newest group: what a clinic writes over it is a fork.
                let spared = host.config.role == Role::Clinic && !self.hostile_disk;
                let end = if spared { host.newest_group() } else { None };
                host.disk.rot_somewhere(&mut self.rng, end)
            }
            Fault::ReadError => host.disk.refuse_reads(&mut self.rng),
            Fault::Misdirect => host.disk.misdirect_next(&mut self.rng),
            _ => {
                host.disk.lie(true);
                true
            }
        };
        host.damaged |= done;
        if done {
            let ms = self.rng.between(1, 30_000);
            self.at(ms * 1000, Due::Mend(fault, h));
        }
        done
    }

    /// Puts back an old image of a disk; the first time, takes it.
    fn restore(&mut self, h: usize) -> bool {
        let role = self.hosts[h].config.role;
        if !self.hostile_disk && (self.hub_suffers != (h == 0) || role == Role::Hub && h > 0) {
            return false;
        }
        let level = role == Role::Hub || self.is_level_with_hub(h) && self.hosts[h].writing.is_empty();
        let again = self.rng.between(1, 20_000) * 1000;
        let Some(backup) = self.hosts[h].backup.clone().filter(|_| level) else {
            if self.hosts[h].backup.is_none() {
                self.hosts[h].back_up();
            }
            if !self.rng.is_over() {
                self.at(again, Due::Strike(Fault::Restore, h));
            }
            return false;
        };
        self.crash(h);
        if !self.is_level_with_hub(h) && role == Role::Clinic {
            // The hub has heard of more in this very moment.
            self.at(1000, Due::Start(h));
            return false;
        }
        self.hosts[h].settle_truth(&mut self.truth);
        self.replace_disk(h, backup);
        // A person who puts a backup back knows it, and syncs before anything is written: what is
        // written first is a fork, and has a scenario of its own.
        self.hosts[h].hold = role == Role::Clinic;
        self.hosts[h].damaged |= role == Role::Hub;
        self.start(h, false);
        self.at(1000, Due::Dial(h));
        true
    }

    /// A copy of a clinic's card comes to life in another machine, under the same name.
    fn copy_card(&mut self, h: usize) -> bool {
        let names = |x: &crate::host::Host| x.config.name == self.hosts[h].config.name;
        let copies = self.hosts.iter().filter(|x| x.clone_of.is_some()).count();
        if self.hosts[h].config.role == Role::Hub
            || copies >= CLONES_MAX
            || self.hosts.iter().filter(|x| names(x)).count() > 1
        {
            return false;
        }
        let copy = self.hosts[h].copy_into_another_machine(h);
        self.timeline.names.push(format!("{}{COPY}", copy.config.name));
        self.hosts.push(copy);
        let h = self.hosts.len() - 1;
        self.start(h, false);
        for n in 0..self.rng.below(6) {
            let payload = format!("{{\"copy\":{n}}}").into_bytes();
            self.hosts[h].backlog.push_back((ropeway_core::id::Lane::Normal, 9, payload));
        }
        self.at(1000, Due::Append(h));
        self.at(2000, Due::Dial(h));
        true
    }
}
