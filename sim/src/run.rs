//! Whole deployments from a tape.

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::policy::{Policy, Role};

use crate::check::Check;
use crate::fault::Fault;
use crate::host::HOSTILE;
use crate::options::Options;
use crate::report::Report;
use crate::rng::Rng;
use crate::shadow::Keeps;
use crate::step::Due;
use crate::world::{World, small_limits};

/// Virtual time within which everything must have arrived once the faults are over: so long per
/// kilobyte of payload at the link's rate, and this much more.
const CONVERGE_MS: u64 = 6 * 3_600_000;

/// Runs a deployment until everything is everywhere it may be, and checks everything.
#[must_use]
pub fn run(options: &Options) -> Report {
    run_tape(options, options.tape(), false)
}

/// As [`run`], and keeps the last lines of the trace for a person to read.
#[must_use]
pub fn run_traced(options: &Options) -> Report {
    run_tape(options, options.tape(), true)
}

/// As [`run`], from a given tape. `keep_tail` keeps the last lines of the trace.
#[must_use]
pub fn run_tape(options: &Options, tape: Rng, keep_tail: bool) -> Report {
    let _planted = options.mutant.planted();
    let mut w = World::of_tape(tape);
    w.mutant = options.mutant;
    w.truth.blind = options.blind;
    w.truth.branches = options.hostile_disk.then(Default::default);
    w.truth.only = options.hostile_disk.then_some(&HOSTILE_DISK_CHECKS);
    w.truth.keep_tail = keep_tail;
    w.listening = keep_tail;
    w.profile = options.profile;
    w.faults = options.faults;
    w.hostile_disk = options.hostile_disk;
    w.stack = options.stack;
    w.policy = if options.all { Policy::All } else { Policy::Own };
    w.auto_dial = true;
    w.finish = !w.rng.one_in(4);
    let how = w.rng.below(4);
    w.seals = how % 2 == 1;
    w.remembers = how >= 2;
    // The model itself takes too long for more of them.
    w.keeps = match w.entropy.0 % 64 {
        _ if !w.remembers => None,
        63 => Some(Keeps::Model),
        32..48 => Some(Keeps::Toy),
        48..63 => Some(Keeps::Sampled),
        _ => None,
    };
    w.retains = how == 3 && !options.hostile_disk;
    w.timeline.rate = (options.profile.up_rate, options.profile.down_rate);
    let payload_bytes = populate(&mut w, options);
    let bad_times = options.faults.iter().any(|f| !matches!(f, Fault::Cut | Fault::Chunks | Fault::LateWord));
    if bad_times {
        let span_ms = [60_000, 60_000, 60_000, 600_000, 4 * 86_400_000][w.rng.below(5) as usize];
        w.plan(span_ms);
        w.run_for(span_ms);
    }
    let before = (w.counts, missing_bytes(&w, options));
    settle(&mut w);
    let hosts = w.hosts.len();
    let mut turn = 0u32;
    let dark_ms = if options.profile.dark_ms > 0 { options.profile.dark_ms * 400 } else { 0 };
    let slow_ms = payload_bytes * 4_000 / options.profile.up_rate.min(options.profile.down_rate).max(1);
    let done = w.run_until(CONVERGE_MS + slow_ms + dark_ms, |w| {
        turn += 1;
        turn.is_multiple_of(4) && (1..hosts).all(|h| is_done(w, h))
    });
    let ms = w.now_ms();
    if !options.hostile_disk {
        let lacking: Vec<String> = (1..hosts).filter_map(|h| why_not_done(&w, h)).collect();
        w.truth.hold(Check::Converges, done, || format!("not everything arrived in time: {}", lacking.join("; ")));
        check_bytes(&mut w, options, before);
        say_goodbye(&mut w);
    }
    close_all(&mut w);
    let mut events = 0;
    if w.failed().is_none() && !options.hostile_disk {
        events = compare_all(&mut w);
        w.check_listed();
    }
    Report::new(options, &mut w, events, ms, payload_bytes)
}

/// What must hold even where disks may lose anything.
static HOSTILE_DISK_CHECKS: [Check; 12] = [
    Check::AsAppended,
    Check::NonceOnce,
    Check::Secrets,
    Check::Policy,
    Check::Origin,
    Check::WireForm,
    Check::Rest,
    Check::ClosedOnce,
    Check::LogOpens,
    Check::Refusal,
    Check::ClockGrows,
    Check::Slots,
];

/// The hosts, and what their applications want to write; the bytes of it.
fn populate(w: &mut World, options: &Options) -> u64 {
    let hosts = options.clinics.max(1) * 2 + 4;
    let usual = |role| match (options.small, role) {
        (true, _) => small_limits(),
        (false, Role::Hub) => Limits { segment_bytes: 1 << 20, ..Limits::hub(hosts) },
        (false, Role::Clinic) => Limits { segment_bytes: 1 << 20, streams: 64, links: 64, ..Limits::clinic() },
    };
    // A hub may have room for one large batch, or take none in parts.
    let rooms = w.rng.below(8);
    let limits = |role| match (rooms, role, usual(role)) {
        (6, Role::Hub, limits) => {
            let parcel_bytes = limits.frame_bytes;
            Limits { parcels: 2, parcel_bytes, outbox: 1, ..limits }
        }
        (7, Role::Hub, limits) => Limits { parcels: 0, outbox: 0, ..limits },
        (_, _, limits) => limits,
    };
    // A hub may take less than the clinics write, and say so beforehand or not. Nothing of it is drawn, so that other
    // runs stay as they were.
    let (event_bytes, frame_bytes) = (2 << 10, 4 << 10);
    let picky = w.entropy.0 >> 8 & 7;
    let tiny = w.entropy.0 >> 11 & 3 > 0;
    let limits = |role| match (picky, role, limits(role)) {
        (6, Role::Hub, limits) => Limits { event_bytes, frame_bytes, batch_bytes: frame_bytes, ..limits },
        (5, Role::Hub, limits) if tiny => {
            Limits { event_bytes: 512, frame_bytes, batch_bytes: 1024, group_bytes: 3 << 10, ..limits }
        }
        (_, _, limits) => limits,
    };
    // Or it has a rule, perhaps in so little memory that the places of a batch fit no group.
    w.choosy = picky == 5;
    w.accept_bytes = if picky == 7 { 600 } else { 0 };
    w.add("hub", Role::Hub, limits(Role::Hub));
    for c in 0..options.clinics {
        w.add(&format!("clinic_{c:03}"), Role::Clinic, limits(Role::Clinic));
    }
    if options.relay {
        w.add("relay", Role::Hub, limits(Role::Hub));
    }
    let mut payload_bytes = 0;
    for n in 0..options.events {
        let h = 1 + n % options.clinics.max(1);
        let payload = payload(w, h, n, options);
        payload_bytes += payload.len() as u64;
        let lane = Lane::ALL[[1, 1, 1, 1, 1, 1, 0, 2][w.rng.below(8) as usize]];
        let kind = w.rng.below(5) as u16;
        let copies = if w.choosy && tiny { TINY_EVENTS } else { 0 };
        w.hosts[h].backlog.push_back((lane, kind, payload));
        // Many of them, of which every other one is refused: their places take several times what they do.
        for copy in 0..copies {
            let payload = format!("{n}.{copy}{SECRET}").into_bytes();
            payload_bytes += payload.len() as u64;
            w.hosts[h].backlog.push_back((lane, copy, payload));
        }
    }
    for h in 1..w.hosts.len() {
        w.at(1000 * h as u64, Due::Append(h));
    }
    payload_bytes
}

fn payload(w: &mut World, h: usize, n: usize, options: &Options) -> Vec<u8> {
    let mut p = format!("{{\"from\":\"{}\",\"n\":{n},\"{SECRET}\":\"", w.hosts[h].config.name).into_bytes();
    let more = match w.rng.below(100) {
        _ if options.size > 0 => w.rng.between(options.size as u64 / 2, options.size as u64 * 3 / 2),
        0..80 => w.rng.below(120),
        80..98 => w.rng.below(800),
        _ if options.small => w.rng.below(8000),
        98 => w.rng.below(20_000),
        _ => w.rng.below(LARGEST_BYTES),
    };
    let most = w.hosts[h].limits.event_bytes - 200;
    let more = more.min(most as u64);
    if more < LARGE_BYTES {
        p.extend((0..more).map(|i| b'a' + ((i * 7 + n as u64) % 26) as u8));
    } else {
        // A picture: compression makes little of it.
        let mut x = n as u64;
        p.extend((0..more).map(|_| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            b'a' + ((x >> 33) % 26) as u8
        }));
    }
    p.extend_from_slice(b"\"}");
    p
}

/// Behind each event where a hub has a rule and little memory.
const TINY_EVENTS: u16 = 8;
/// Largest payload of a run that draws its sizes.
const LARGEST_BYTES: u64 = 200_000;
/// Payloads from this on do not repeat themselves.
const LARGE_BYTES: u64 = 5000;

/// Stands in every payload, and must stand on no disk.
pub(crate) const SECRET: &str = "HIV_status";

/// Ends all faults. Hosts whose disk suffered start again, so that they see what they have lost.
fn settle(w: &mut World) {
    if w.failed().is_some() {
        return;
    }
    w.due.retain(|d| !matches!(d.0.2, Due::Strike(..) | Due::Mend(..) | Due::Crash(..)));
    // What is sent whole must fit the life of a link, whoever drives it: large events too where a node knows no parts.
    let in_parts = w.hosts.iter().all(|x| x.limits.parcels > 0);
    let whole = if in_parts { 6 << 10 } else { LARGEST_BYTES as usize };
    let largest = w.hosts.iter().map(|x| x.limits.event_bytes.min(whole)).max().unwrap_or(0) as u64;
    let alive_ms = 5_000 + largest * 3_000 / w.profile.up_rate.min(w.profile.down_rate).max(1);
    w.profile.cut_every_ms = if w.profile.cut_every_ms == 0 { 0 } else { w.profile.cut_every_ms.max(alive_ms) };
    w.profile.idle_kill_ms = 0;
    w.sync_ms = w.sync_ms.min(400);
    w.truth.note(format_args!("{} settle", w.now_us));
    w.timeline.settled_ms = w.now_ms();
    for h in 0..w.hosts.len() {
        let host = &mut w.hosts[h];
        host.disk.segments_max = usize::MAX;
        host.disk.heal();
        host.fail_sync = false;
        host.dark_us = host.dark_us.min(w.now_us);
        host.frozen = false;
        host.failures = 0;
        let failed = host.node().is_some_and(|n| n.storage_failed().is_some());
        if failed || host.damaged {
            w.crash(h);
        }
        if w.hosts[h].node().is_none() {
            w.start(h, true);
        }
        if w.hosts[h].damaged {
            // What a checkpoint has passed over would be found within a month.
            w.hosts[h].scrub_all(w.now_us);
            // Where what led to the events was damaged too, the next start tells what is missing.
            w.crash(h);
            w.start(h, true);
        }
        w.at(0, Due::Bright(h));
        w.at(1000, Due::Dial(h));
        w.at(2000, Due::Append(h));
        w.at(60_000_000, Due::Tick(h));
        w.wake(h, 0);
    }
}

fn is_done(w: &World, h: usize) -> bool {
    let host = &w.hosts[h];
    host.backlog.is_empty()
        && !host.hold
        && host.node().is_some_and(|n| n.durable_group() == n.last_group())
        && w.hosts[0].node().is_some_and(|n| n.durable_group() == n.last_group())
        && w.is_level_with_hub(h)
}

/// What a host waits for.
fn why_not_done(w: &World, h: usize) -> Option<String> {
    if is_done(w, h) {
        return None;
    }
    let (host, hub) = (&w.hosts[h], &w.hosts[0]);
    let waits = |x: &crate::host::Host| x.node().is_none_or(|n| n.durable_group() != n.last_group());
    let differs = |k: &&ropeway_core::id::StreamKey| host.has_synced(k) != hub.has_synced(k);
    let keys: std::collections::BTreeSet<_> = host.synced.keys().chain(hub.synced.keys()).collect();
    let theirs: Vec<String> = keys
        .into_iter()
        .filter(differs)
        .map(|k| format!("{k}: {} here, {} at the hub", host.has_synced(k), hub.has_synced(k)))
        .take(3)
        .collect();
    Some(format!(
        "{} has {} events to append (last refusal {:?}), disk pending here {}, at the hub {}, last ending {:?}, {}",
        w.timeline.names[h],
        host.backlog.len(),
        host.refused,
        waits(host),
        waits(hub),
        host.endings.last(),
        theirs.join(", ")
    ))
}

/// With everything in place two more sessions of each node must come to a clean end on both sides. In the
/// first, a clinic that lost the last acknowledgement may send what it does not know to be there
/// (docs/PROTOCOL.md#early-1); in the second nobody sends an event.
fn say_goodbye(w: &mut World) {
    if w.failed().is_some() {
        return;
    }
    (w.auto_dial, w.finish, w.faults) = (false, true, w.faults.without(Fault::Cut).without(Fault::Refusal));
    for h in 0..w.hosts.len() {
        w.cut(h, true);
        w.hosts[h].dark_us = 0;
        w.at(0, Due::Bright(h));
    }
    w.run_for(1000);
    let mut before = w.counts.sent;
    for h in (1..w.hosts.len()).chain(1..w.hosts.len()) {
        if h == 1 {
            before = w.counts.sent;
        }
        let (mine, theirs) = (w.hosts[h].endings.len(), w.hosts[0].endings.len());
        if !w.dial_hub(h) {
            let (here, there) = (w.hosts[h].opened.len(), w.hosts[0].opened.len());
            let live = |x: &crate::host::Host| x.opened.values().filter(|n| **n == 0).count();
            let (a, b) = (live(&w.hosts[h]), live(&w.hosts[0]));
            return w.truth.fail(
                Check::Slots,
                format!("host {h} cannot connect: {a} of {here} sessions open here, {b} of {there} at the hub"),
            );
        }
        w.run_until(300_000, |w| w.hosts[h].endings.len() > mine && w.hosts[0].endings.len() > theirs);
        let ends = [&w.hosts[h].endings[mine..], &w.hosts[0].endings[theirs..]].concat();
        let clean = ends.len() == 2 && ends.iter().all(|e| e.code.is_none());
        w.truth.hold(Check::CleanEnd, clean, || format!("host {h}: the last session ended with {ends:?}"));
    }
    let none = w.counts.sent == before;
    w.truth.hold(Check::CleanEnd, none, || "events were sent again although all were there".into());
}

/// Cuts what is left and checks that each session was closed once.
fn close_all(w: &mut World) {
    w.auto_dial = false;
    for h in 0..w.hosts.len() {
        w.hosts[h].frozen = false;
        w.cut(h, true);
    }
    w.run_for(1000);
    (0..w.conns.len()).for_each(|c| w.add_up(c));
    for h in 0..w.hosts.len() {
        let open = w.hosts[h].opened.values().filter(|n| **n != 1).count();
        let closed = open == 0 || w.hosts[h].node().is_none();
        w.truth.hold(Check::ClosedOnce, closed, || format!("host {h}: {open} sessions were not closed exactly once"));
    }
}

/// Bytes that the hub has yet to get, roughly: payload and 64 bytes an event.
fn missing_bytes(w: &World, options: &Options) -> u64 {
    let waiting = w.hosts.iter().flat_map(|x| &x.backlog).map(|(_, _, p)| p.len() as u64 + 64).sum::<u64>();
    let copies = if options.relay { 2 } else { 1 };
    let size = |key, seq| w.sizes.get(&(key, seq)).map_or(1000, |bytes| (*bytes).max(1000)) + 64;
    let behind = |x: &crate::host::Host| {
        let own = x.synced.iter().filter(|(k, _)| k.node == x.config.name);
        own.map(|(k, n)| (w.hosts[0].has_synced(k) + 1..=*n).map(|seq| size(*k, seq)).sum::<u64>()).sum::<u64>()
    };
    (waiting + w.hosts[1..].iter().map(behind).sum::<u64>()) * copies
}

/// Bytes on the wire stay within a small multiple of what was needed, and a price for each session
/// and each interruption.
fn check_bytes(w: &mut World, options: &Options, (before, needed): (crate::world::Counts, u64)) {
    if w.failed().is_some() || options.all || w.hosts.iter().any(|x| x.damaged || x.clone_of.is_some()) {
        return;
    }
    let c = w.counts;
    let up = c.bytes_up - before.bytes_up;
    let sessions = c.sessions - before.sessions;
    let broken = c.cuts - before.cuts + w.hosts.len() as u64;
    let window = w.hosts.iter().map(|x| x.limits.frame_bytes as u64).max().unwrap_or(0).min(24 << 10);
    let most = needed * 2 + sessions * 2048 + broken * (window + (16 << 10));
    w.truth.hold(Check::Bytes, up <= most, || {
        format!("{up} bytes went up where {needed} were needed, with {sessions} sessions and {broken} interruptions")
    });
}

/// Every host holds what it may, in the order of its origin; the events at the hub.
fn compare_all(w: &mut World) -> u64 {
    let counts: Vec<u64> = (0..w.hosts.len()).map(|h| w.verify(h)).collect();
    let total: u64 = w.truth.events.values().map(|e| e.len() as u64).sum();
    w.check_withheld();
    for (h, count) in counts.iter().enumerate() {
        let host = &w.hosts[h];
        let all = host.config.role == Role::Hub || w.policy == Policy::All;
        let own = w.truth.events.iter().filter(|(k, _)| k.node == host.config.name);
        let wanted = if all { total } else { own.map(|(_, e)| e.len() as u64).sum() };
        let who = host.config.name;
        w.truth.hold(Check::SameEverywhere, *count == wanted, || format!("{who} holds {count} events of {wanted}"));
        w.truth.hold(Check::Origin, who.as_str() != HOSTILE, || "a stranger has a log".into());
        let plain = w.hosts[h].disk.contains(SECRET.as_bytes());
        w.truth.hold(Check::Secrets, !plain, || format!("{who}: a payload stands on the disk in plain"));
    }
    counts[0]
}
