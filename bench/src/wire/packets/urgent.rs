//! Urgent events behind bulk.

use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_std::local::LocalPush;

use super::relay::Plan;
use super::scene::{Asked, Scene};
use super::way::Profile;
use super::{SEED, together};
use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Cell, Table};

/// Bulk: 2 MB of events that no codec makes smaller.
const BULK: (usize, usize) = (2_048, 1_024);
/// How many urgent events are sent behind it.
const URGENT: usize = 8;
const URGENT_BYTES: usize = 1_024;
/// How often the hub's disk is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Two of the frames that virtual time makes of such bulk (docs/PERFORMANCE.md), in seconds.
const TWO_FRAMES_S: f64 = 5.03;

/// Seconds from each append until it was durable at the hub.
fn latencies(asked: &Asked, profile: Profile) -> Result<Vec<f64>> {
    let scene = Scene::open(asked, profile, Plan::never(), SEED)?;
    let bulk = Corpus::noise(BULK.0, BULK.1);
    scene.append(&bulk, 0..bulk.len(), Lane::Bulk, 1)?;
    let process = scene.sync(&["--keep"])?;
    process.until("connected")?;
    scene.rest(Duration::from_secs(30))?;
    let urgent = Corpus::noise(URGENT, URGENT_BYTES);
    let mut seconds = Vec::new();
    for n in 0..URGENT {
        // Not in step with the frames.
        scene.rest(Duration::from_millis(12_000 + 137 * n as u64))?;
        let from_us = scene.link.now_us();
        let mut push = LocalPush::connect(&scene.clinic_dir).ok_or("the client takes no events")?;
        push.push(Lane::Urgent, 0, urgent.event(n).1)?;
        push.finish()?;
        while scene.at_hub(Some(Lane::Urgent))? <= n as u64 {
            scene.rest(LOOK)?;
        }
        seconds.push((scene.link.now_us() - from_us) as f64 / 1e6);
    }
    if scene.at_hub(Some(Lane::Bulk))? == bulk.len() as u64 {
        return Err("the bulk was through before the urgent events".into());
    }
    Ok(seconds)
}

pub(super) fn measure(asked: &Asked, profile: Profile) -> Result<Table> {
    let losses = [0, 2];
    let runs = together(
        "urgent events",
        losses.map(|loss| move || latencies(asked, Profile { loss_ppm: loss * 10_000, ..profile })).into(),
    )?;
    let mut table = Table::new(
        "packets_urgent",
        "An urgent event of 1 KB behind 2 MB of bulk that no codec makes smaller: seconds until durable at the hub",
        &[("link", "link"), ("least_s", "least (s)"), ("mean_s", "mean"), ("worst_s", "worst"), ("target_s", "target")],
    );
    let target_s = 3.0 * profile.round_trip_s() + TWO_FRAMES_S;
    for (loss, seconds) in losses.iter().zip(runs) {
        table.row(vec![
            Cell::Text(format!("{loss} % loss")),
            Cell::Figure(seconds.iter().copied().fold(f64::MAX, f64::min), 2),
            Cell::Figure(seconds.iter().sum::<f64>() / URGENT as f64, 2),
            Cell::Figure(seconds.iter().copied().fold(0.0, f64::max), 2),
            Cell::Figure(target_s, 2),
        ]);
    }
    table.note(format!("{URGENT} events, 12 s and more apart. The target is 3 round trips and the time of 2 frames."));
    Ok(table)
}
