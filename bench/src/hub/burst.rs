//! Many clinics that reconnect together: who gets the model, and how the hub comes back to it.

use super::fleet::{Coming, Fleet, Sum};
use super::watch::{MODEL, ZSTD};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};
use crate::wire::host::Packing;

/// States of the hub, as it is shipped.
const STATES: usize = 5;
/// Seconds in which they all come.
const SPREADS_S: [u64; 2] = [1, 20];
/// After the burst somebody comes every so many seconds, for so long.
const LOOK_S: u64 = 2;
const LOOKS: u64 = 60;
/// Before a burst the hub has rested for so long, in microseconds.
const REST_US: u64 = 300_000_000;

/// What a burst was like.
struct Burst {
    model: Sum,
    zstd: Sum,
    /// Both, or neither.
    others: Sum,
    learned_bytes: u64,
    /// From its begin until the last session was over.
    seconds: f64,
    /// From its begin until the first session that begins with the model again, of those that come later; `None` if there
    /// was none.
    back_s: Option<f64>,
    /// Sessions afterwards that were not the model's.
    later_others: u64,
}

pub(super) fn measure(corpus: &Corpus, sizes: &[u16]) -> Result<Table> {
    let mut table = Table::new(
        "burst",
        format!("Clinics that reconnect together, over 2G, with one new event each ({})", corpus.name),
        &[
            ("clinics", "clinics"),
            ("spread_s", "within (s)"),
            ("model", "model"),
            ("zstd", "zstd"),
            ("others", "others"),
            ("model_bytes", "model (B)"),
            ("zstd_bytes", "zstd (B)"),
            ("others_bytes", "others (B)"),
            ("learned_kb", "learned (KB)"),
            ("hub_cpu_ms", "hub (ms)"),
            ("seconds", "last is done (s)"),
            ("back_s", "model again (s)"),
            ("later_others", "later, not model"),
        ],
    );
    let largest = sizes.iter().copied().max().unwrap_or(0);
    let mut fleet = Fleet::new(usize::from(largest), corpus)?;
    let bar = bar("bursts", (sizes.len() * SPREADS_S.len()) as u64);
    for &clinics in sizes {
        for spread_s in SPREADS_S {
            let burst = burst(&mut fleet, clinics.into(), spread_s)?;
            let all_cpu = burst.model.hub_cpu + burst.zstd.hub_cpu + burst.others.hub_cpu;
            table.row(vec![
                Cell::Count(clinics.into()),
                Cell::Count(spread_s),
                Cell::Count(burst.model.visits),
                Cell::Count(burst.zstd.visits),
                Cell::Count(burst.others.visits),
                Cell::maybe(burst.model.bytes_each(), 0),
                Cell::maybe(burst.zstd.bytes_each(), 0),
                Cell::maybe(burst.others.bytes_each(), 0),
                Cell::Count(burst.learned_bytes / 1024),
                Cell::Figure(all_cpu.as_secs_f64() * 1e3, 0),
                Cell::Figure(burst.seconds, 1),
                Cell::maybe(burst.back_s, 0),
                Cell::Count(burst.later_others),
            ]);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    table.note(format!(
        "{STATES} states. Bytes of frames of one session, both ways, without TLS. Others: sessions with batches of both. \
         Afterwards somebody comes every {LOOK_S} s; *model again* is when the first of them that got the model came, after \
         the burst began. The processor's time is no part of virtual time."
    ));
    Ok(table)
}

fn burst(fleet: &mut Fleet<'_>, clinics: usize, spread_s: u64) -> Result<Burst> {
    fleet.serve(STATES)?;
    let from_us = fleet.now_us + REST_US;
    let at_us = |n: usize| from_us + spread_s * 1_000_000 * n as u64 / clinics as u64;
    let coming: Vec<_> = (0..clinics).map(|clinic| Coming { at_us: at_us(clinic), clinic, events: 1 }).collect();
    let visited = fleet.run(&coming, Packing::Model)?;
    let since = |us: u64| (us - from_us) as f64 / 1e6;
    let is_zstd = |t: &super::watch::Tallies| t[ZSTD].batches > 0 && t[MODEL].batches == 0;
    let seconds = visited.iter().map(|v| since(v.ended_us)).fold(0.0, f64::max);
    let (mut back_s, mut later_others) = (None, 0);
    for n in 0..LOOKS {
        let at_us = fleet.now_us + LOOK_S * 1_000_000;
        for visit in fleet.run(&[Coming { at_us, clinic: n as usize % clinics, events: 1 }], Packing::Model)? {
            if visit.is_model() {
                back_s = back_s.or(Some(since(visit.begun_us)));
            } else {
                later_others += 1;
            }
        }
    }
    Ok(Burst {
        model: Sum::of(visited.iter().filter(|v| v.is_model())),
        zstd: Sum::of(visited.iter().filter(|v| is_zstd(&v.tallies))),
        others: Sum::of(visited.iter().filter(|v| !v.is_model() && !is_zstd(&v.tallies))),
        learned_bytes: visited.iter().map(|v| v.tallies[MODEL].learned).sum(),
        seconds,
        back_s,
        later_others,
    })
}
