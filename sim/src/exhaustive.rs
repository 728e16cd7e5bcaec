//! Every crash of one small scenario: a clinic writes, turns a segment over, syncs with its hub and
//! notes what the hub has acknowledged. After every effect the power fails at each host, with each
//! subset of the unsynced sectors on the disk, and each of them once as garbage. What is left must
//! open, hold what was promised, go on, survive the next crash, and sync.
//!
//! Two calls give the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use ropeway_core::id::{Lane, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::planted::spared;
use ropeway_core::policy::Role;

use crate::check::{Check, Failure};
use crate::disk::{Disk, Fate};
use crate::fault::Faults;
use crate::host::Host;
use crate::mutant::Mutant;
use crate::rng::Rng;
use crate::truth::Truth;
use crate::world::World;

mod ways;

use ways::ways;

/// The clock of a host that lost its power comes back so much late, as without a battery it does.
const CLOCK_LOST_MS: i64 = 600_000;
/// With more unsynced sectors than this, one is made garbage only where all others are kept or lost.
const GARBAGE_SECTORS: usize = 10;
/// With more unsynced sectors than this, a second crash follows once for each state that was recovered
/// instead of for each image.
const SECOND_SECTORS: usize = 8;
/// Everything is over long before.
const PATIENCE_MS: u64 = 120_000;

/// What [`exhaustive`] has tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exhausted {
    /// Effects after which the power was cut at each host: appends, syncs, provisions, transmits and
    /// landings.
    pub effects: u64,
    /// Different moments for a crash: what a disk holds, what is unsynced, what was promised.
    pub crash_points: u64,
    /// The most unsynced sectors at one of them.
    pub sectors_max: usize,
    /// Points with so many unsynced sectors that not all subsets were tried.
    pub thinned: u64,
    /// Different disks after a crash.
    pub images: u64,
    /// Of these, disks with a sector of garbage.
    pub garbage: u64,
    /// Points with so many unsynced sectors that one was made garbage only where all others are kept or
    /// all others are lost.
    pub garbage_thinned: u64,
    /// Different disks after a second crash, amid the first appends after the first one.
    pub second_images: u64,
    /// Whole syncs with the other host, one for each different state that was recovered.
    pub sessions: u64,
    /// The first check that failed.
    pub failed: Option<Failure>,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} effects, {} crash points", self.effects, self.crash_points)?;
        writeln!(f, "at most {} unsynced sectors; not all subsets at {} points", self.sectors_max, self.thinned)?;
        writeln!(f, "{} images, {} of them with garbage", self.images, self.garbage)?;
        writeln!(f, "garbage not in all ways at {} points", self.garbage_thinned)?;
        writeln!(f, "{} images after a second crash, {} syncs to the end", self.second_images, self.sessions)?;
        match &self.failed {
            None => f.write_str("every check held"),
            Some(failure) => write!(f, "failed: {failure}"),
        }
    }
}

/// Crashes the scenario everywhere, on disks with sectors of 512 and of 4,096 bytes, until `stop_at`
/// images (all of them: `u64::MAX`) or the first failure.
#[must_use]
pub fn exhaustive(mutant: Mutant, stop_at: u64) -> Exhausted {
    let _planted = mutant.planted();
    let mut out = Exhausted::default();
    for sector_bytes in [4096, 512] {
        let mut walk = Walk { mutant, stop_at, out, seen: BTreeSet::new(), recovered: BTreeSet::new() };
        walk.scenario(sector_bytes);
        out = walk.out;
    }
    out
}

/// As small as the node's own check allows: six pages a segment.
fn tiny_limits() -> Limits {
    Limits {
        histories: 0,
        history_bytes: 0,
        parcels: 0,
        parcel_bytes: 0,
        outbox: 0,
        sessions: 2,
        streams: 8,
        streams_per_node: 8,
        links: 8,
        event_bytes: 2048,
        frame_bytes: 4096,
        batch_bytes: 3072,
        credit_bytes: 4096,
        group_bytes: 5120,
        segment_bytes: 6 * 4096,
    }
}

/// Collects the moments at which a crash would leave something new.
#[derive(Debug, Default)]
pub(crate) struct Points {
    effects: u64,
    seen: BTreeSet<u64>,
    fresh: Vec<Point>,
}

/// A moment for a crash of `hosts[host]`. Its disk is as it stands, the others' as after a crash that
/// took all that was unsynced.
#[derive(Debug)]
struct Point {
    after: &'static str,
    us: u64,
    host: usize,
    hosts: Vec<Host>,
    truth: Truth,
}

impl World {
    /// Something was done: a moment to crash, if anybody looks for one.
    pub(crate) fn crash_point(&mut self, after: &'static str) {
        let Some(points) = &mut self.points else { return };
        points.effects += 1;
        for (host, x) in self.hosts.iter().enumerate().filter(|(_, x)| x.node.is_some()) {
            if points.seen.insert(digest(&(host, x.disk.digest(), &x.promised))) {
                let disk = |(i, x): (usize, &Host)| if i == host { x.disk.clone() } else { x.disk.snapshot() };
                let hosts = self.hosts.iter().enumerate().map(|(i, x)| x.without_power(disk((i, x)))).collect();
                points.fresh.push(Point { after, us: self.now_us, host, hosts, truth: self.truth.clone() });
            }
        }
    }

    fn fresh_points(&mut self) -> Vec<Point> {
        self.points.as_mut().map_or(Vec::new(), |p| std::mem::take(&mut p.fresh))
    }
}

fn digest(what: &impl Hash) -> u64 {
    let mut h = DefaultHasher::new();
    what.hash(&mut h);
    h.finish()
}

struct Walk {
    mutant: Mutant,
    stop_at: u64,
    out: Exhausted,
    /// Images that were tried, with what was promised.
    seen: BTreeSet<u64>,
    /// States that were recovered, with what was promised.
    recovered: BTreeSet<u64>,
}

impl Walk {
    fn scenario(&mut self, sector_bytes: usize) {
        let mut w = World::new(1).with_mutant(self.mutant);
        w.faults = Faults::NONE;
        for (name, role) in [("hub", Role::Hub), ("clinic", Role::Clinic)] {
            w.add_with(name, role, tiny_limits(), Disk::new(sector_bytes));
        }
        w.points = Some(Points::default());
        w.crash_point("the start");
        // The first group makes the segment; the second fills while the first is being synced.
        self.append(&mut w, &[(Lane::Normal, 40), (Lane::Normal, 300), (Lane::Urgent, 40)]);
        self.let_pass(&mut w, 1);
        self.append(&mut w, &[(Lane::Bulk, 700), (Lane::Normal, 120)]);
        self.let_pass(&mut w, 100);
        // A group of two pages, which is being synced when the session opens.
        self.append(&mut w, &[(Lane::Bulk, 2040), (Lane::Normal, 2040)]);
        self.let_pass(&mut w, 1);
        w.connect(1, 0);
        self.let_pass(&mut w, 5);
        // New events while a session runs, and acknowledgements to be noted.
        self.append(&mut w, &[(Lane::Urgent, 40), (Lane::Normal, 100)]);
        self.let_pass(&mut w, 10_000);
        // Another segment begins.
        self.append(&mut w, &[(Lane::Bulk, 500), (Lane::Normal, 300)]);
        self.let_pass(&mut w, 100);
        w.connect(1, 0);
        self.let_pass(&mut w, 10_000);
        let level = w.is_level_with_hub(1) && w.sessions(1) == 0;
        w.truth.hold(Check::Converges, level, || "the scenario itself does not come to its end".into());
        self.blame(&mut w, "without a crash");
        self.out.effects += w.points.map_or(0, |p| p.effects);
    }

    fn is_over(&self) -> bool {
        self.out.failed.is_some() || self.out.images >= self.stop_at
    }

    fn append(&mut self, w: &mut World, events: &[(Lane, usize)]) {
        for (lane, len) in events {
            let payload: Vec<u8> = (0..*len).map(|i| (i * 7 + len + w.timeline.events as usize) as u8).collect();
            while !self.is_over() && w.truth.failed.is_none() && w.append(1, *lane, 1, &payload).is_err() {
                self.let_pass(w, 1);
            }
        }
    }

    /// Lets time pass, step by step, and crashes at each.
    fn let_pass(&mut self, w: &mut World, ms: u64) {
        let until = w.now_us + ms * 1000;
        loop {
            for point in w.fresh_points() {
                self.crash_at(&point);
            }
            if self.is_over() || w.truth.failed.is_some() || !w.step(until) {
                break;
            }
        }
        w.now_us = w.now_us.max(until);
    }

    /// Every image that a crash at this point can leave.
    fn crash_at(&mut self, point: &Point) {
        let dirty = point.hosts[point.host].disk.dirty_sectors();
        let (ways, whole) = ways(dirty.len());
        self.out.crash_points += 1;
        let all_garbage = dirty.len() <= GARBAGE_SECTORS;
        self.out.thinned += u64::from(!whole);
        self.out.garbage_thinned += u64::from(!all_garbage);
        self.out.sectors_max = self.out.sectors_max.max(dirty.len());
        for kept in ways {
            let fate = |kept: bool| if kept { Fate::Kept } else { Fate::Lost };
            let mut fates: Vec<_> = dirty.iter().zip(kept).map(|(s, k)| (*s, fate(k))).collect();
            self.try_image(point, &fates);
            if !all_garbage && fates.iter().any(|f| f.1 != fates[0].1) {
                continue;
            }
            for i in 0..fates.len() {
                let before = std::mem::replace(&mut fates[i].1, Fate::Garbage);
                self.try_image(point, &fates);
                fates[i].1 = before;
            }
        }
    }

    fn try_image(&mut self, point: &Point, fates: &[((u64, usize), Fate)]) {
        if self.is_over() {
            return;
        }
        let h = point.host;
        let disk = point.hosts[h].disk.image_with(fates);
        let key = digest(&(h, disk.digest(), &point.hosts[h].promised));
        if !self.seen.insert(key) {
            return;
        }
        self.out.images += 1;
        self.out.garbage += u64::from(fates.iter().any(|f| f.1 == Fate::Garbage));
        let mut w = self.world_after(point, disk, key);
        self.survive(&mut w, h, fates.len() <= SECOND_SECTORS);
        let name = w.hosts[h].config.name;
        self.blame(&mut w, &format!("{name} crashed at {} us after {} and left {fates:?}", point.us, point.after));
    }

    /// The first failure, and where it came from.
    fn blame(&mut self, w: &mut World, place: &str) {
        if let (Some(f), None) = (w.truth.failed.take(), &self.out.failed) {
            self.out.failed = Some(Failure { check: f.check, what: format!("{place}: {}", f.what) });
        }
    }

    /// The world a second later, with all power off.
    fn world_after(&self, point: &Point, disk: Disk, key: u64) -> World {
        let mut w = World::of_tape(Rng::from_bytes(&key.to_be_bytes())).with_mutant(self.mutant);
        w.faults = Faults::NONE;
        w.now_us = point.us + 1_000_000;
        w.truth = point.truth.clone();
        w.hosts = point.hosts.iter().map(|x| x.without_power(x.disk.clone())).collect();
        w.hosts[point.host].disk = disk;
        w.hosts[point.host].wall_ahead_ms = -CLOCK_LOST_MS;
        w
    }

    /// Opens what a crash has left, goes on, crashes again, syncs. `few`: few sectors were unsynced.
    fn survive(&mut self, w: &mut World, h: usize, few: bool) {
        let Some(state) = open(w, h) else { return };
        let new = self.recovered.insert(digest(&(h, state, &w.hosts[h].promised)));
        w.points = Some(Points::default());
        go_on(w, h, &Lane::ALL);
        // What is unsynced now is lost at the second crash: nothing is.
        let points = w.fresh_points();
        w.points = None;
        restart(w, h);
        if w.truth.failed.is_some() {
            return;
        }
        for point in points.iter().filter(|_| few || new) {
            self.crash_again(w, point);
        }
        if w.truth.failed.is_none() && new {
            self.out.sessions += 1;
            sync(w, h);
        }
    }

    /// A crash amid the first appends after a crash. All lost and all kept are what was there before
    /// and what is there after; so the first sector alone survives, or all others.
    fn crash_again(&mut self, w: &mut World, point: &Point) {
        let dirty = point.hosts[point.host].disk.dirty_sectors();
        for first in [Fate::Kept, Fate::Lost] {
            let rest = if first == Fate::Kept { Fate::Lost } else { Fate::Kept };
            let fates: Vec<_> =
                dirty.iter().enumerate().map(|(i, s)| (*s, if i == 0 { first } else { rest })).collect();
            let disk = point.hosts[point.host].disk.image_with(&fates);
            let key = digest(&(point.host, disk.digest(), &point.hosts[point.host].promised));
            if fates.is_empty() || !self.seen.insert(key) {
                continue;
            }
            self.out.second_images += 1;
            let mut again = self.world_after(point, disk, key);
            if open(&mut again, point.host).is_some() {
                go_on(&mut again, point.host, &[Lane::Normal]);
                restart(&mut again, point.host);
            }
            if let Some(f) = again.truth.failed.take() {
                w.truth.fail(f.check, format!("a second crash after {} left {fates:?}: {}", point.after, f.what));
            }
        }
    }
}

/// Opens the log of a host without power twice, starts the node, and holds what it has against the
/// truth. What was recovered, to recognise it by.
fn open(w: &mut World, h: usize) -> Option<u64> {
    let (host, disk) = (&w.hosts[h], w.hosts[h].disk.digest());
    let who = host.config.name;
    let (once, twice) = match (host.open_log(), host.open_log()) {
        (Ok(once), Ok(twice)) => (once, twice),
        (Err(e), _) | (_, Err(e)) => {
            w.truth.fail(Check::LogOpens, format!("{who}: the log does not open: {e}"));
            return None;
        }
    };
    let state = format!("{once:?}");
    w.truth.hold(Check::Recovery, state == format!("{twice:?}"), || format!("{who}: the log opens as two things"));
    let loss = once.damages.iter().find(|d| d.is_loss());
    w.truth.hold(Check::DamageBounded, loss.is_none(), || format!("{who}: a crash is taken for damage: {loss:?}"));
    for e in once.recovered.frontier().filter(|e| e.own && h > 0) {
        let held = w.hosts[0].promised.get(&e.key).copied().unwrap_or(0);
        w.truth.hold(Check::Acknowledged, e.acked <= held, || {
            format!("{who}: {} counts as acknowledged to {}, the hub has synced {held}", e.key, e.acked)
        });
    }
    w.start(h, true);
    // A header that did not land with its group is put back (docs/LOG.md#frame-8): other bytes, the same log.
    let same =
        w.hosts[h].disk.digest() == disk || w.hosts[h].open_log().is_ok_and(|after| format!("{after:?}") == state);
    w.truth.hold(Check::Recovery, same, || format!("{who}: recovery writes"));
    w.verify(h);
    w.truth.failed.is_none().then(|| digest(&state))
}

/// Appends an event to each of these lanes and waits until they are durable.
fn go_on(w: &mut World, h: usize, lanes: &[Lane]) {
    for lane in lanes {
        w.write(h, *lane, format!("after the crash, {lane}").as_bytes());
    }
    let done = w.run_until(PATIENCE_MS, |w| {
        let (host, events) = (&w.hosts[h], &w.truth.events);
        host.wrote.iter().all(|key| host.promised.get(key).copied().unwrap_or(0) >= events[key].len() as u64)
    });
    w.truth
        .hold(Check::Converges, done, || format!("host {h}: what is appended after a crash does not become durable"));
}

/// Power off, and on again: only what is durable is left.
fn restart(w: &mut World, h: usize) {
    if w.truth.failed.is_some() {
        return;
    }
    w.stop(h);
    let left = w.hosts[h].disk.snapshot();
    w.hosts[h].disk = left;
    w.start(h, true);
    w.verify(h);
}

/// Starts the other host and syncs to the end: both hold the same of the clinic's streams.
fn sync(w: &mut World, h: usize) {
    w.start(1 - h, true);
    w.connect(1, 0);
    let done = w.run_until(PATIENCE_MS, |w| w.is_level_with_hub(1) && w.sessions(0) + w.sessions(1) == 0);
    w.truth.hold(Check::Converges, done, || "the hosts are not level after a crash and a sync".into());
    w.verify(0);
    w.verify(1);
    let clinic = w.hosts[1].config.name;
    let of_clinic = |x: &Host| -> BTreeMap<StreamKey, u64> {
        let log = spared(|| x.open_log());
        let all = log.iter().flat_map(|l| l.recovered.frontier());
        all.filter(|e| e.key.node == clinic).map(|e| (e.key, e.have)).collect()
    };
    let same = of_clinic(&w.hosts[0]) == of_clinic(&w.hosts[1]);
    w.truth.hold(Check::SameEverywhere, same, || "hub and clinic hold different events of the clinic".into());
}
