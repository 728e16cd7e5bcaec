//! Short syncs: what one event costs in packets.

use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_std::local::LocalPush;

use super::relay::{Breaks, Plan};
use super::scene::{Asked, Process, Scene};
use super::seen::{Count, DOWN, UP};
use super::way::Profile;
use super::{SEED, together};
use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Cell, Table};

/// Events of before.
const HISTORY: usize = 200;
/// How often the hub's disk is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// How long the link is down before the connection that resumes, in microseconds.
const DOWN_US: u64 = 1_000_000;

/// What one event has cost.
struct Cost {
    count: Count,
    /// From SYN, or from the append within an open session, until the event was durable at the hub.
    durable_s: f64,
    /// The same until the clinic knew.
    known_s: f64,
}

/// The same on one link: a connection of its own, one that resumes, an open session.
fn costs(asked: &Asked, corpus: &Corpus, profile: Profile) -> Result<Vec<Cost>> {
    let plan = Plan { breaks: Breaks::Never, down_us: DOWN_US, forgets: true };
    let scene = Scene::open(asked, profile, plan, SEED)?;
    scene.append(corpus, 0..HISTORY, Lane::Normal, 0)?;
    finish(&scene.sync(&[])?)?;
    let mut costs = Vec::new();

    scene.append(corpus, HISTORY..HISTORY + 1, Lane::Normal, 0)?;
    let process = scene.sync(&[])?;
    let durable_us = durable(&scene, HISTORY + 1)?;
    finish(&process)?;
    costs.push(cost(&scene, None, durable_us, scene.link.now_us()));

    let process = scene.sync(&["--keep"])?;
    process.until("level")?;
    scene.link.cut();
    scene.rest(Duration::from_micros(DOWN_US / 2))?;
    push(&scene, corpus, HISTORY + 1)?;
    let durable_us = durable(&scene, HISTORY + 2)?;
    process.until("level")?;
    costs.push(cost(&scene, None, durable_us, scene.link.now_us()));

    // All that belongs to the event of before is over.
    scene.rest(Duration::from_secs(5))?;
    let from_us = scene.link.now_us();
    push(&scene, corpus, HISTORY + 2)?;
    let durable_us = durable(&scene, HISTORY + 3)?;
    process.until("level")?;
    let known_us = scene.link.now_us();
    // Not before the last packet is out.
    scene.rest(Duration::from_secs(2))?;
    costs.push(cost(&scene, Some(from_us), durable_us, known_us));
    Ok(costs)
}

fn push(scene: &Scene, corpus: &Corpus, n: usize) -> Result<()> {
    let mut push = LocalPush::connect(&scene.clinic_dir).ok_or("the client takes no events")?;
    let (kind, payload) = corpus.event(n);
    push.push(Lane::Normal, kind, payload)?;
    push.finish()?;
    Ok(())
}

fn finish(process: &Process) -> Result<()> {
    let line = process.next()?;
    if line["complete"] == true { Ok(()) } else { Err(format!("the sync ended: {line}").into()) }
}

/// When the hub had so many events.
fn durable(scene: &Scene, events: usize) -> Result<u64> {
    while scene.at_hub(None)? < events as u64 {
        scene.rest(LOOK)?;
    }
    Ok(scene.link.now_us())
}

/// Of the last connection: since this moment, or since its SYN.
fn cost(scene: &Scene, from_us: Option<u64>, durable_us: u64, known_us: u64) -> Cost {
    let log = scene.link.log();
    let port = log.connections().last().copied();
    let syn_us = log.all.iter().find(|s| Some(s.port) == port).map_or(0, |s| s.at_us);
    let from_us = from_us.unwrap_or(syn_us);
    let seconds = |us: u64| us.saturating_sub(from_us) as f64 / 1e6;
    Cost {
        count: log.count(|s| Some(s.port) == port && s.at_us >= from_us),
        durable_s: seconds(durable_us),
        known_s: seconds(known_us),
    }
}

pub(super) fn measure(asked: &Asked, profile: Profile) -> Result<Table> {
    let corpus = &Corpus::generated(HISTORY + 3);
    // So fast that only the distance takes time.
    let far = Profile { rate_bytes_per_s: 10_000_000, queue_bytes: 1 << 20, ..profile };
    let links = [("2G", profile), ("far", far)];
    let runs = together("short syncs", links.map(|(_, profile)| move || costs(asked, corpus, profile)).into())?;
    let mut table = Table::new(
        "packets_session",
        "One event (284 B) over real TCP: packets and bytes of IP",
        &[
            ("session", "session"),
            ("link", "link"),
            ("packets_up", "packets up"),
            ("packets_down", "down"),
            ("ip_up_bytes", "IP up (B)"),
            ("ip_down_bytes", "down"),
            ("payload_bytes", "TCP payload (B)"),
            ("durable_s", "durable at the hub (s)"),
            ("known_s", "known (s)"),
            ("round_trips", "round trips until known"),
        ],
    );
    let sessions = ["new connection (`sync`, to its end)", "resumed (`sync --keep`)", "open session"];
    for ((link, profile), costs) in links.iter().zip(runs) {
        for (session, cost) in sessions.iter().zip(costs) {
            let [up, down] = cost.count.0;
            debug_assert_eq!((UP, DOWN), (0, 1));
            table.row(vec![
                Cell::Text((*session).into()),
                Cell::Text((*link).into()),
                Cell::Count(up.packets),
                Cell::Count(down.packets),
                Cell::Count(up.bytes),
                Cell::Count(down.bytes),
                Cell::Count(up.payload + down.payload),
                Cell::Figure(cost.durable_s, 2),
                Cell::Figure(cost.known_s, 2),
                Cell::Figure(cost.known_s / profile.round_trip_s(), 2),
            ]);
        }
    }
    table.note(
        "From SYN (open session: from the append) until the clinic knew; a sync of its own knows when it is over, GOODBYEs \
         with it. Far: 10 MB/s and 600 ms there and back, so that round trips can be counted. The resumed one is the call \
         after a link has come back with another address.",
    );
    Ok(table)
}
