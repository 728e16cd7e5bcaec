//! What a backlog takes of the hub's processor.

use ropeway_core::id::Lane;

use crate::Result;
use crate::corpus::Corpus;
use crate::cpu::mb_per_s;
use crate::progress::bar;
use crate::table::{Cell, Table};
use crate::wire::air::Air;
use crate::wire::host::Packing;
use crate::wire::{append, home, pair};

/// Mean seconds between two events.
const GAP_S: u32 = 120;

pub(super) fn measure(corpora: &[Corpus]) -> Result<Table> {
    let mut table = Table::new(
        "backlog",
        "A backlog over 2G: what the hub's end takes of a processor (TLS, node, codec, log; no sockets)",
        &[
            ("corpus", "corpus"),
            ("codec", "codec"),
            ("events", "events"),
            ("bytes_per_event", "B/event on the wire"),
            ("hub_cpu_ms", "hub (ms)"),
            ("events_per_s", "events/s of a core"),
            ("mb_per_s", "MB/s of a core"),
        ],
    );
    let bar = bar("backlogs", corpora.len() as u64 * 3);
    for corpus in corpora {
        for packing in [Packing::Stored, Packing::Zstd, Packing::Model] {
            let home = home()?;
            let mut pair = pair(&home, packing)?;
            append(&mut pair, corpus, 0..corpus.len(), Lane::Normal, GAP_S)?;
            let mut call = pair.dial(Air::thin())?;
            call.until_caught_up()?;
            call.finish()?;
            let (bytes, took) = (call.bytes().iter().sum::<u64>(), call.hub_cpu);
            if call.pair.at_hub() != corpus.len() as u64 {
                return Err("the hub does not hold the whole backlog".into());
            }
            let events = corpus.len() as f64;
            table.row(vec![
                Cell::Text(corpus.name.clone()),
                Cell::Text(format!("{packing:?}").to_lowercase()),
                Cell::Count(corpus.len() as u64),
                Cell::Figure(bytes as f64 / events, 1),
                Cell::Figure(took.as_secs_f64() * 1e3, 0),
                Cell::Figure(events / took.as_secs_f64().max(1e-9), 0),
                Cell::Figure(mb_per_s(corpus.data.len(), took), 2),
            ]);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    table.note("MB/s of payloads. One session at a time; its disk is memory.");
    Ok(table)
}
