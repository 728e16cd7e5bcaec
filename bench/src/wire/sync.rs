//! A backlog that was never synced, over a new connection.

use ropeway_core::id::Lane;

use super::air::Air;
use super::host::Packing;
use super::{append, home, pair};
use crate::Result;
use crate::corpus::{Corpus, xz};
use crate::progress::bar;
use crate::table::{Cell, Table};

/// What is aimed at for corpora of these names: bytes per event, all of them; and with zstd alone.
const TARGETS: [(&str, f64, f64); 4] =
    [("epis", 18.0, 42.0), ("fhir", 30.0, 55.0), ("odk", 112.0, 245.0), ("tiny", 3.5, 9.0)];

/// What a cold sync has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cold {
    /// Bytes of TCP payload both ways, from ClientHello to the last GOODBYE.
    pub(super) bytes: u64,
    /// Bytes of the BATCH frames.
    pub(super) batch_bytes: u64,
    pub(super) batches: usize,
    /// From SYN to the last acknowledgement, in seconds.
    pub(super) seconds: f64,
}

/// Syncs a whole corpus between two new nodes.
pub(super) fn cold(corpus: &Corpus, gap_s: u32, air: Air, packing: Packing) -> Result<Cold> {
    let home = home()?;
    let mut pair = pair(&home, packing)?;
    append(&mut pair, corpus, 0..corpus.len(), Lane::Normal, gap_s)?;
    let mut call = pair.dial(air)?;
    call.until_caught_up()?;
    let seconds = (call.pair.now_us - call.begun_us) as f64 / 1e6;
    call.finish()?;
    if call.pair.at_hub() != corpus.len() as u64 {
        return Err("the hub does not hold the whole backlog".into());
    }
    Ok(Cold {
        bytes: call.bytes().iter().sum(),
        batch_bytes: call.batches.iter().map(|b| b.bytes as u64).sum(),
        batches: call.batches.len(),
        seconds,
    })
}

pub(super) fn measure(corpora: &[Corpus], gap_s: u32) -> Result<Table> {
    let mut table = Table::new(
        "sync",
        "A backlog, cold: bytes per event, all bytes of TCP both ways with TLS and its handshake",
        &[
            ("corpus", "corpus"),
            ("events", "events"),
            ("raw_bytes", "raw"),
            ("thin_bytes", "over 2G"),
            ("target_bytes", "target"),
            ("thin_batch_bytes", "of it batches"),
            ("thin_batches", "batches"),
            ("thin_s", "time (s)"),
            ("thin_zstd_bytes", "with zstd"),
            ("target_zstd_bytes", "target"),
            ("thin_zstd_s", "time (s)"),
            ("cable_bytes", "over a cable"),
            ("zstd3_bytes", "zstd -3"),
            ("zstd19_bytes", "zstd -19"),
            ("xz_bytes", "xz -9e"),
        ],
    );
    let bar = bar("backlogs", corpora.len() as u64 * 4);
    for corpus in corpora {
        let events = corpus.len() as f64;
        let each = |bytes: u64| Cell::Figure(bytes as f64 / events, 1);
        let thin = cold(corpus, gap_s, Air::thin(), Packing::Model)?;
        bar.inc(1);
        let thin_zstd = cold(corpus, gap_s, Air::thin(), Packing::Zstd)?;
        bar.inc(1);
        let cable = cold(corpus, gap_s, Air::cable(), Packing::Model)?;
        bar.inc(1);
        let lines = corpus.lines(0, corpus.len());
        let target = TARGETS.iter().find(|(name, ..)| *name == corpus.name);
        let mut whole = Vec::new();
        for level in [3, 19] {
            whole.push(zstd::bulk::compress(&lines, level)?.len() as u64);
        }
        table.row(vec![
            Cell::Text(corpus.name.clone()),
            Cell::Count(corpus.len() as u64),
            each(corpus.data.len() as u64),
            each(thin.bytes),
            Cell::maybe(target.map(|t| t.1), 1),
            each(thin.batch_bytes),
            Cell::Count(thin.batches as u64),
            Cell::Figure(thin.seconds, 0),
            each(thin_zstd.bytes),
            Cell::maybe(target.map(|t| t.2), 0),
            Cell::Figure(thin_zstd.seconds, 0),
            each(cable.bytes),
            each(whole[0]),
            each(whole[1]),
            xz(&lines).map_or(Cell::Nothing, |bytes| each(bytes as u64)),
        ]);
        bar.inc(1);
    }
    bar.finish_and_clear();
    table.note(format!(
        "One stream, {gap_s} s between two events; 2G is 2,875 B/s and 600 ms there and back. zstd and xz: the whole \
         backlog as lines, in one piece, without stamps, acknowledgements or encryption."
    ));
    Ok(table)
}
