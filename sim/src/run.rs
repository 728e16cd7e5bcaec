//! Whole deployments from a seed.

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::policy::Role;

use crate::link::Profile;
use crate::report::Report;
use crate::world::{Due, Mutant, World, small_limits};

/// What to run. The same options give the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where all chance comes from.
    pub seed: u64,
    /// Number of clinics.
    pub clinics: usize,
    /// Number of events, over all clinics.
    pub events: usize,
    /// The link.
    pub profile: Profile,
    /// Nodes lose power now and then, disks fill, clocks are wrong.
    pub faults: bool,
    /// Small segments, groups and credit, so that everything turns over often.
    pub small: bool,
    /// A planted bug.
    pub mutant: Mutant,
}

impl Default for Options {
    /// A hub, five clinics and 5,000 events over a 2G link that is cut now and then.
    fn default() -> Self {
        Self {
            seed: 1,
            clinics: 5,
            events: 5000,
            profile: Profile::BHUTAN_2G,
            faults: false,
            small: false,
            mutant: Mutant::None,
        }
    }
}

impl Options {
    /// A small run of which the seed chooses everything.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        let mut rng = crate::rng::Rng::new(seed ^ 0x5eed);
        let mut profile = Profile::ALL[rng.below(3) as usize];
        if rng.one_in(2) {
            profile.cut_every_ms = rng.between(200, 20_000);
        }
        Self {
            seed,
            clinics: rng.between(1, 4) as usize,
            events: rng.between(1, 120) as usize,
            profile,
            faults: rng.one_in(2),
            small: !rng.one_in(4),
            mutant: Mutant::None,
        }
    }
}

/// Virtual time after which the faults end.
const FAULTS_MS: u64 = 60_000;
/// Virtual time within which everything must have arrived once they have.
const CONVERGE_MS: u64 = 6 * 3_600_000;

/// Runs a deployment until every event is durable at the hub, and checks everything.
#[must_use]
pub fn run(options: &Options) -> Report {
    run_with_tail(options, false)
}

/// As [`run`], and keeps the last lines of the trace for a person to read.
#[must_use]
pub fn run_traced(options: &Options) -> Report {
    run_with_tail(options, true)
}

/// `keep_tail` keeps the last lines of the trace.
fn run_with_tail(options: &Options, keep_tail: bool) -> Report {
    let mut w = World::new(options.seed).with_mutant(options.mutant);
    w.truth.keep_tail = keep_tail;
    w.listening = keep_tail;
    w.profile = options.profile;
    w.auto_dial = true;
    w.finish = !w.rng.one_in(4);
    let limits = |role| match (options.small, role) {
        (true, _) => small_limits(),
        (false, Role::Hub) => Limits { segment_bytes: 1 << 20, ..Limits::hub(options.clinics.max(1) * 2) },
        (false, Role::Clinic) => Limits { segment_bytes: 1 << 20, streams: 64, links: 64, ..Limits::clinic() },
    };
    w.add("hub", Role::Hub, limits(Role::Hub));
    for c in 0..options.clinics {
        w.add(&format!("clinic_{c:03}"), Role::Clinic, limits(Role::Clinic));
    }
    let mut payload_bytes = 0;
    for n in 0..options.events {
        let h = 1 + n % options.clinics.max(1);
        let payload = payload(&mut w, h, n, options.small);
        payload_bytes += payload.len() as u64;
        let lane = Lane::ALL[[1, 1, 1, 1, 1, 1, 0, 2][w.rng.below(8) as usize]];
        let kind = w.rng.below(5) as u16;
        w.hosts[h].backlog.push_back((lane, kind, payload));
    }
    for h in 1..w.hosts.len() {
        w.at(1000 * h as u64, Due::Append(h));
    }
    if options.faults {
        plan_faults(&mut w);
        w.run_for(FAULTS_MS);
    }
    settle(&mut w);
    let hosts = w.hosts.len();
    let done = w.run_until(CONVERGE_MS, |w| (1..hosts).all(|h| is_done(w, h)));
    let ms = w.now_ms();
    if !done && w.failed().is_none() {
        w.truth.fail("not everything arrived at the hub in time");
    }
    say_goodbye(&mut w);
    close_all(&mut w);
    let mut events = 0;
    if w.failed().is_none() {
        events = w.verify(0);
        let total: u64 = (1..hosts).map(|h| w.verify(h)).sum();
        if total != events {
            w.truth.fail(format!("the hub holds {events} events, the clinics {total}"));
        }
    }
    Report::new(options, &w, events, ms, payload_bytes)
}

fn payload(w: &mut World, h: usize, n: usize, small: bool) -> Vec<u8> {
    let mut p = format!("{{\"from\":\"{}\",\"n\":{n},\"note\":\"", w.hosts[h].config.name).into_bytes();
    let more = match w.rng.below(100) {
        0..80 => w.rng.below(120),
        80..98 => w.rng.below(800),
        _ => w.rng.below(if small { 7000 } else { 20_000 }),
    };
    p.extend((0..more).map(|i| b'a' + ((i * 7 + n as u64) % 26) as u8));
    p.extend_from_slice(b"\"}");
    p
}

fn plan_faults(w: &mut World) {
    for h in 0..w.hosts.len() {
        for _ in 0..w.rng.below(3) {
            let at = w.rng.below(FAULTS_MS * 1000);
            w.at(at, Due::Crash(h));
        }
        match w.rng.below(8) {
            0 => w.hosts[h].wall_ahead_ms = -(crate::EPOCH_MS as i64),
            1 => w.hosts[h].wall_ahead_ms = 80 * 365 * 86_400_000,
            2 => w.hosts[h].disk.segments_max = 1,
            3 => w.hosts[h].fail_sync = true,
            _ => {}
        }
    }
    w.sync_ms = if w.rng.one_in(4) { 400 } else { 20 };
}

/// Ends all faults.
fn settle(w: &mut World) {
    w.profile.cut_every_ms = if w.profile.cut_every_ms == 0 { 0 } else { w.profile.cut_every_ms.max(5_000) };
    for h in 0..w.hosts.len() {
        w.hosts[h].disk.segments_max = usize::MAX;
        w.hosts[h].fail_sync = false;
        let failed = w.hosts[h].node().is_some_and(|n| n.storage_failed().is_some());
        if failed {
            w.crash(h);
        }
        if w.hosts[h].node().is_none() {
            w.start(h, true);
        }
        w.at(1000, Due::Dial(h));
        w.at(2000, Due::Append(h));
    }
}

fn is_done(w: &World, h: usize) -> bool {
    let host = &w.hosts[h];
    host.backlog.is_empty() && host.node().is_some_and(|n| n.durable_group() == n.last_group()) && w.holds_all_of(0, h)
}

/// With everything in place one more session of each clinic must come to a clean end on both sides,
/// without sending an event.
fn say_goodbye(w: &mut World) {
    if w.failed().is_some() {
        return;
    }
    (w.auto_dial, w.finish, w.profile.cut_every_ms) = (false, true, 0);
    for h in 0..w.hosts.len() {
        w.cut(h, true);
    }
    w.run_for(1000);
    let before = w.counts.sent;
    for h in 1..w.hosts.len() {
        let (mine, theirs) = (w.hosts[h].endings.len(), w.hosts[0].endings.len());
        if w.connect(h, 0).is_none() {
            return w.truth.fail(format!("clinic {h} cannot connect"));
        }
        w.run_until(300_000, |w| w.hosts[h].endings.len() > mine && w.hosts[0].endings.len() > theirs);
        let ends = [&w.hosts[h].endings[mine..], &w.hosts[0].endings[theirs..]].concat();
        if ends.len() != 2 || ends.iter().any(|e| e.code.is_some()) {
            return w.truth.fail(format!("clinic {h}: the last session ended with {ends:?}"));
        }
    }
    if w.counts.sent != before {
        w.truth.fail("events were sent again although all were there");
    }
}

/// Cuts what is left and checks that each session was closed once.
fn close_all(w: &mut World) {
    w.auto_dial = false;
    for h in 0..w.hosts.len() {
        w.cut(h, true);
    }
    w.run_for(1000);
    for h in 0..w.hosts.len() {
        let open = w.hosts[h].opened.values().filter(|n| **n != 1).count();
        if open > 0 && w.hosts[h].node().is_some() {
            w.truth.fail(format!("host {h}: {open} sessions were not closed exactly once"));
        }
    }
}
