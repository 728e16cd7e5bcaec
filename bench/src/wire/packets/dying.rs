//! Links that die all the time.

use super::backlog::run;
use super::relay::{Breaks, Plan};
use super::scene::Asked;
use super::seen::UP;
use super::together;
use super::way::Profile;
use crate::Result;
use crate::corpus::Corpus;
use crate::table::{Cell, Table};

/// How long the link lives, in microseconds.
const LIFE_US: (u64, u64) = (10_000_000, 60_000_000);
/// How long it is down then, in microseconds.
const DOWN_US: u64 = 5_000_000;
/// Events that are to be sent: some three minutes of link time with the model, so that the link dies often enough.
const EVENTS: usize = 40_000;

pub(super) fn measure(asked: &Asked, gap_s: u32, profile: Profile) -> Result<Table> {
    let corpus = Corpus::generated(EVENTS);
    let living = |forgets| {
        let breaks = Breaks::Living { least_us: LIFE_US.0, most_us: LIFE_US.1 };
        Plan { breaks, down_us: DOWN_US, forgets }
    };
    let plans = [Plan::never(), living(false), living(true)];
    let corpus = &corpus;
    let runs = together(
        "links that die",
        plans.into_iter().map(|plan| move || run(asked, corpus, gap_s, profile, plan)).collect(),
    )?;
    let mut table = Table::new(
        "packets_dying",
        format!("A link that dies every 10 to 60 s and is down for 5 s: {EVENTS} events by `sync --keep`"),
        &[
            ("link", "link"),
            ("seconds", "time (s)"),
            ("up_seconds", "of it up (s)"),
            ("deaths", "deaths"),
            ("connections", "connections"),
            ("carried_bytes", "payload carried up (B)"),
            ("needed_bytes", "needed without deaths (B)"),
            ("goodput_percent", "goodput (%)"),
            ("target_percent", "target"),
            ("used_percent", "of what could be carried while up (%)"),
        ],
    );
    let needed = runs[0].arrived;
    for (run, link) in runs.iter().zip(["lives", "dies, connections survive", "dies, new address each time"]) {
        let carried = run.count.0[UP].carried_payload;
        table.row(vec![
            Cell::Text(link.into()),
            Cell::Figure(run.seconds, 0),
            Cell::Figure(run.up_s, 0),
            Cell::Count(run.breaks as u64),
            Cell::Count(run.connections as u64),
            Cell::Count(carried),
            Cell::Count(needed),
            Cell::Figure(needed as f64 * 100.0 / carried as f64, 1),
            Cell::Figure(80.0, 0),
            Cell::Figure(needed as f64 * 100.0 / (run.up_s * profile.rate_bytes_per_s as f64), 1),
        ]);
    }
    table.note(
        "Goodput: what the same sync takes on a link that lives, of the TCP payload that arrived at the hub (also twice). \
         The last column holds the time that is lost until a dead connection is noticed and the hub is called again.",
    );
    Ok(table)
}
