//! What a short session takes of the hub's processor.

use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_std::tls::Clock;
use ropeway_std::{Options, Replica, SyncOptions};

use super::process::Serving;
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::stats::median;
use crate::table::{Cell, Table};
use crate::wire::air::Air;
use crate::wire::host::{Packing, make_clinic, make_hub};
use crate::wire::session::known;
use crate::wire::{append, home};

/// Events that the hub has of the clinic before.
const BEFORE: usize = 240;
/// Sessions that do not count: the first one has states to learn.
const WARM_UP: usize = 3;

pub(super) fn measure(corpus: &Corpus, sessions: usize) -> Result<Table> {
    let mut table = Table::new(
        "sessions",
        format!("Sessions with one event ({}): what the hub takes of a processor", corpus.name),
        &[
            ("hub", "hub"),
            ("codec", "codec"),
            ("connection", "connection"),
            ("sessions", "sessions"),
            ("hub_cpu_ms", "hub (ms/session)"),
            ("sessions_per_s", "sessions/s of a core"),
            ("bytes", "all (B)"),
        ],
    );
    let bar = bar("short sessions", 8 * sessions as u64);
    let mut row = |hub: &str, codec: Packing, connection: &str, took: Duration, bytes: f64| {
        let ms = took.as_secs_f64() * 1e3 / sessions as f64;
        table.row(vec![
            Cell::Text(hub.into()),
            Cell::Text(format!("{codec:?}").to_lowercase()),
            Cell::Text(connection.into()),
            Cell::Count(sessions as u64),
            Cell::Figure(ms, 2),
            Cell::Figure(1e3 / ms.max(1e-9), 0),
            Cell::Figure(bytes, 0),
        ]);
    };
    for packing in [Packing::Stored, Packing::Zstd, Packing::Model] {
        for (connection, resumes) in [("new", false), ("resumed", true)] {
            let home = home()?;
            let mut pair = known(home.path(), 1, corpus, BEFORE, packing)?;
            let (mut took, mut bytes) = (Duration::ZERO, Vec::new());
            for n in 0..WARM_UP + sessions {
                if !resumes {
                    pair.forget_tickets()?;
                }
                let event = BEFORE + n;
                append(&mut pair, corpus, event..event + 1, Lane::Normal, 60)?;
                let mut call = pair.dial(Air::cable())?;
                call.until_caught_up()?;
                call.finish()?;
                if call.is_resumed() != resumes {
                    return Err("the connection is not of the kind that is measured".into());
                }
                if n >= WARM_UP {
                    took += call.hub_cpu;
                    bytes.push(call.bytes().iter().sum::<u64>() as f64);
                    bar.inc(1);
                }
            }
            row("node, TLS, codec and log", packing, connection, took, median(&bytes));
        }
    }
    if cfg!(target_os = "linux") {
        for packing in [Packing::Zstd, Packing::Model] {
            let (took, bytes) = real(corpus, sessions, packing)?;
            row("`serve`, loopback", packing, "new", took, bytes);
            bar.inc(sessions as u64);
        }
    }
    bar.finish_and_clear();
    table.note(
        "Means; of `serve`, a process, of all that its threads took, sockets and files with it. One clinic, whose state the \
         hub's pool keeps as long as it begins with the same event; the table `pool` tells what it costs if not. Disks are \
         memory.",
    );
    Ok(table)
}

/// Processor time of a real hub for so many syncs of an embedded node, and bytes of one of them.
fn real(corpus: &Corpus, sessions: usize, packing: Packing) -> Result<(Duration, f64)> {
    let home = home()?;
    let hub = make_hub(home.path(), Clock::System)?;
    let clinic = make_clinic(home.path(), &hub, "clinic_a", Clock::System)?;
    let serving = Serving::start(&hub, &[])?;
    let usual = Options::default();
    let model_states = if packing == Packing::Model { usual.model_states } else { 0 };
    let mut node = Replica::open(clinic, Options { model_states, ..usual })?;
    let mut sync = |events: std::ops::Range<usize>| -> Result<f64> {
        let new = events.len() as u64;
        for n in events {
            let (kind, payload) = corpus.event(n);
            node.append(Lane::Normal, kind, payload)?;
        }
        node.commit()?;
        let report = node.sync(serving.address(), &SyncOptions::default(), |_| ())?;
        if report.acknowledged != new {
            return Err("the hub has not taken what was sent".into());
        }
        Ok((report.wire_bytes_up + report.wire_bytes_down) as f64)
    };
    sync(0..BEFORE)?;
    for n in 0..WARM_UP {
        sync(BEFORE + n..BEFORE + n + 1)?;
    }
    let before = serving.process.cpu()?;
    let mut bytes = Vec::new();
    for n in WARM_UP..WARM_UP + sessions {
        bytes.push(sync(BEFORE + n..BEFORE + n + 1)?);
    }
    Ok((serving.process.cpu()?.saturating_sub(before), median(&bytes)))
}
