//! A backlog over packets: whole, with losses, and with cuts.

use ropeway_core::id::Lane;

use super::relay::{Breaks, Plan};
use super::scene::{Asked, Scene};
use super::seen::{Count, DOWN, UP};
use super::way::{Dice, Profile};
use super::{SEED, together};
use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Cell, Table};

/// How long the link is down after each cut, in microseconds; the table's names say it too.
const DOWN_US: u64 = 10_000_000;

/// One sync, or what came of one after cuts.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) count: Count,
    /// Payload that arrived at the hub, each byte of a connection once.
    pub(super) arrived: u64,
    /// Shares of the rate while the backlog drains: fresh payload, and packets.
    pub(super) used: Option<(f64, f64)>,
    /// Bytes that the client has given to TCP.
    pub(super) given: u64,
    pub(super) connections: usize,
    /// Seconds during which the link was up.
    pub(super) up_s: f64,
    pub(super) breaks: usize,
}

/// Syncs a whole corpus; by `ropeway sync`, or by `sync --keep` if the link breaks.
pub(super) fn run(asked: &Asked, corpus: &Corpus, gap_s: u32, profile: Profile, plan: Plan) -> Result<Run> {
    let breaks = !matches!(plan.breaks, Breaks::Never);
    let scene = Scene::open(asked, profile, plan, SEED)?;
    scene.append(corpus, 0..corpus.len(), Lane::Normal, gap_s)?;
    let begun_us = scene.link.now_us();
    let process = scene.sync(if breaks { &["--keep"] } else { &[] })?;
    let mut given = 0;
    loop {
        let line = process.next()?;
        let up = line["wire_bytes_up"].as_u64().unwrap_or(0);
        if line["complete"] == true || line["state"] == "level" {
            given += up;
            break;
        }
        if line["state"] == "ended" {
            given += up;
        } else if !line["complete"].is_null() {
            return Err(format!("the sync ended: {line}").into());
        }
    }
    let done_us = scene.link.now_us();
    scene.compare(corpus)?;
    let downs = scene.link.downs();
    let down_us: u64 = downs.iter().map(|(from, until)| until.min(&done_us) - from.min(&done_us)).sum();
    let log = scene.link.log();
    Ok(Run {
        seconds: (done_us - begun_us) as f64 / 1e6,
        count: log.count(|_| true),
        arrived: log.arrived(),
        used: log.used(profile.rate_bytes_per_s),
        given,
        connections: log.connections().len(),
        up_s: (done_us - begun_us - down_us) as f64 / 1e6,
        breaks: downs.len(),
    })
}

/// A link of the table.
#[derive(Clone, Copy)]
struct Row {
    name: &'static str,
    loss_ppm: u32,
    queue_bytes: usize,
    cuts: u64,
    forgets: bool,
}

/// The one that the others are held against.
const WHOLE: usize = 2;
const LINKS: [Row; 5] = {
    let row = Row { name: "no loss", loss_ppm: 0, queue_bytes: 8 << 10, cuts: 0, forgets: false };
    let lossy = Row { name: "2 % loss", loss_ppm: 20_000, ..row };
    [
        row,
        Row { name: "no loss, a queue of 32 KiB", queue_bytes: 32 << 10, ..row },
        lossy,
        Row { name: "2 % loss, 3 cuts of 10 s", cuts: 3, ..lossy },
        Row { name: "2 % loss, 3 cuts, new address", cuts: 3, forgets: true, ..lossy },
    ]
};

pub(super) fn measure(asked: &Asked, corpora: &[Corpus], gap_s: u32, profile: Profile, control: &str) -> Result<Table> {
    let mut jobs = Vec::new();
    for corpus in corpora {
        // About what the clinic sends: where the cuts are is to be the same in each run.
        let bytes = super::super::sync::cold(
            corpus,
            gap_s,
            super::super::air::Air::thin(),
            super::super::host::Packing::Model,
        )?
        .bytes;
        for Row { loss_ppm, queue_bytes, cuts, forgets, .. } in LINKS {
            let mut dice = Dice::new(SEED);
            let mut marks: Vec<u64> = (0..cuts).map(|_| bytes / 10 + dice.below(bytes * 8 / 10)).collect();
            marks.sort_unstable();
            let breaks = if cuts > 0 { Breaks::After(marks) } else { Breaks::Never };
            let plan = Plan { breaks, down_us: DOWN_US, forgets };
            let profile = Profile { loss_ppm, queue_bytes, ..profile };
            jobs.push(move || run(asked, corpus, gap_s, profile, plan));
        }
    }
    let mut table = Table::new(
        "packets_backlog",
        "A backlog over real TCP: 23 kbit/s and 600 ms there and back, counted in IP packets",
        &[
            ("corpus", "corpus"),
            ("link", "link"),
            ("seconds", "time (s)"),
            ("payload_up_bytes", "TCP payload up (B)"),
            ("payload_down_bytes", "down"),
            ("ip_up_bytes", "IP up (B)"),
            ("ip_down_bytes", "down"),
            ("packets", "packets"),
            ("tcp_repeated_bytes", "TCP sent again (B)"),
            ("used_payload_percent", "rate used: payload (%)"),
            ("used_percent", "packets (%)"),
            ("connections", "connections"),
            ("again_arrived_bytes", "again per cut: arrived (B)"),
            ("again_sent_bytes", "sent"),
            ("again_given_bytes", "given to TCP"),
        ],
    );
    let runs = together("backlogs over packets", jobs)?;
    for (corpus, runs) in corpora.iter().zip(runs.chunks(LINKS.len())) {
        let whole = &runs[WHOLE];
        for (run, link) in runs.iter().zip(LINKS) {
            let [up, down] = [run.count.0[UP], run.count.0[DOWN]];
            let again = |of: fn(&Run) -> u64| {
                let more = of(run) as f64 - of(whole) as f64;
                Cell::maybe((link.cuts > 0).then_some(more / run.breaks.max(1) as f64), 0)
            };
            table.row(vec![
                Cell::Text(corpus.name.clone()),
                Cell::Text(link.name.into()),
                Cell::Figure(run.seconds, 0),
                Cell::Count(up.fresh),
                Cell::Count(down.fresh),
                Cell::Count(up.bytes),
                Cell::Count(down.bytes),
                Cell::Count(run.count.packets()),
                Cell::Count(run.count.repeated()),
                Cell::maybe(run.used.filter(|_| link.cuts == 0).map(|u| u.0 * 100.0), 1),
                Cell::maybe(run.used.filter(|_| link.cuts == 0).map(|u| u.1 * 100.0), 1),
                Cell::Count(run.connections as u64),
                again(|r| r.arrived),
                again(|r| r.count.0[UP].fresh),
                again(|r| r.given),
            ]);
        }
    }
    table.note(format!("Congestion control: {control}; everything else as the kernel has it."));
    table.note(
        "Each run ends with the hub holding exactly the corpus, or fails. The queue before the rate holds 8 KiB. Payload: each byte of a connection once. Rate \
         used: from the first batch to the last; a full packet is 1,500 B of which 1,448 are payload (96.5 %). New \
         address: connections of before the cut go nowhere afterwards. Again: what went up beyond the uncut sync with 2 % \
         loss, handshakes with it; target: 8,192 B.",
    );
    Ok(table)
}
