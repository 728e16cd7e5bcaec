//! A thin link: how well it is used, what a cut costs, how fast urgent events get through.

use ropeway_core::id::Lane;

use super::air::Air;
use super::call::{Call, HUB, Pair};
use super::host::{Host, Packing};
use super::{NAME, append, dirs, home, large, pair};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// How often the link breaks.
const CUTS: u64 = 24;
/// A connection breaks after this share of the time that the whole backlog takes, at the latest.
const LIFE_SHARE: f64 = 0.1;
/// Before it has lived so long it has sent no batch, in microseconds.
const YOUTH_US: u64 = 3_000_000;
/// How many urgent events are sent behind the bulk.
const URGENT: usize = 8;
/// Bulk: 2 MB of events that no codec makes smaller.
const BULK: (usize, usize) = (2_048, 1_024);

pub(super) fn measure(corpora: &[Corpus], gap_s: u32) -> Result<Table> {
    let mut table = Table::new(
        "link",
        "A link of 23 kbit/s and 600 ms there and back",
        &[("what", "what"), ("corpus", "corpus"), ("figure", "figure"), ("unit", "unit"), ("target", "target")],
    );
    let bar = bar("a thin link", corpora.len() as u64 * 3);
    for corpus in corpora {
        let mut row = |what: &str, figure: Option<f64>, digits: usize, unit: &str, target: Cell| {
            let [what, name, unit] = [what, corpus.name.as_str(), unit].map(|t| Cell::Text(t.into()));
            table.row(vec![what, name, Cell::maybe(figure, digits), unit, target]);
        };
        let (used, seconds) = drain(corpus, gap_s)?;
        row("used while a backlog drains", Some(used * 100.0), 1, "% of its rate", Cell::Figure(97.0, 0));
        bar.inc(1);
        let meta = metadata(corpus, gap_s)?;
        row("metadata in batches, stored", Some(meta), 2, "B/event", Cell::Figure(3.0, 0));
        bar.inc(1);
        let resent = cuts(corpus, gap_s, seconds)?;
        let worst = |of: fn(&Resent) -> u64| resent.iter().map(of).max().map(|bytes| bytes as f64);
        let mean =
            (!resent.is_empty()).then(|| resent.iter().map(|r| r.carried).sum::<u64>() as f64 / resent.len() as f64);
        row("carried again after a cut, mean", mean, 0, "B", Cell::Nothing);
        row("carried again after a cut, worst", worst(|r| r.carried), 0, "B", Cell::Figure(8_192.0, 0));
        row("given to TCP again after a cut, worst", worst(|r| r.given), 0, "B", Cell::Nothing);
        bar.inc(1);
    }
    let urgent = urgent()?;
    for (what, seconds) in [("mean", urgent.mean_s), ("worst", urgent.worst_s)] {
        table.row(vec![
            Cell::Text(format!("urgent event of 1 KB behind 2 MB of bulk, {what}")),
            Cell::Text("noise".into()),
            Cell::Figure(seconds, 2),
            Cell::Text("s until durable".into()),
            Cell::Figure(urgent.target_s, 2),
        ]);
    }
    large_rows(&mut table)?;
    bar.finish_and_clear();
    table.note(format!(
        "Cuts: at most {CUTS} of them, at any byte of what a connection carries in its first seconds; bytes of BATCH frames. Urgent: the \
         target is 3 round trips and the time of 2 frames, of which the longest was {:.2} s.",
        urgent.frame_s
    ));
    Ok(table)
}

/// One event of 200 KB: over a link that dies, and with urgent ones behind it.
fn large_rows(table: &mut Table) -> Result<()> {
    let mut row = |what: String, figure: Option<f64>, digits: usize, unit: &str| {
        let [what, name, unit] = [what, "noise".into(), unit.into()].map(Cell::Text);
        table.row(vec![what, name, Cell::maybe(figure, digits), unit, Cell::Nothing]);
    };
    let dying = large::dying()?;
    let what = |of: &str| format!("a 200 KB event over a link that dies every 20 s, {of}");
    row(what("arrives after"), dying.map(|d| d.seconds), 1, "s");
    row(what("given to TCP"), dying.map(|d| d.bytes as f64 / 1024.0), 1, "KB");
    row(what("connections"), dying.map(|d| d.connections as f64), 0, "");
    let urgent = large::urgent()?;
    let mean = urgent.iter().sum::<f64>() / urgent.len().max(1) as f64;
    let worst = urgent.iter().copied().fold(0.0, f64::max);
    row("urgent event of 1 KB behind a 200 KB event, mean".into(), Some(mean), 2, "s until durable");
    row("urgent event of 1 KB behind a 200 KB event, worst".into(), Some(worst), 2, "s until durable");
    Ok(())
}

/// The share of the link's rate that is used from the first BATCH to the last, 0 to 1, and how many seconds that
/// takes.
fn drain(corpus: &Corpus, gap_s: u32) -> Result<(f64, f64)> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    append(&mut pair, corpus, 0..corpus.len(), Lane::Normal, gap_s)?;
    let mut call = pair.dial(Air::thin())?;
    call.until_caught_up()?;
    let (first, way) = (call.batches.first().ok_or("nothing was sent")?, &call.ways[0]);
    let seconds = (way.idle_at_us() - first.us) as f64 / 1e6;
    Ok(((way.bytes - first.at) as f64 / seconds / call.air.rate_bytes_per_s as f64, seconds))
}

/// Bytes of BATCH frames beside the payloads, per event, if nothing is compressed.
pub(super) fn metadata(corpus: &Corpus, gap_s: u32) -> Result<f64> {
    let home = home()?;
    let (clinic, hub) = dirs(&home)?;
    let mut pair = Pair::new(Host::open_packing(&clinic, 0, Packing::Stored)?, Host::open(&hub, 0)?, 0)?;
    append(&mut pair, corpus, 0..corpus.len(), Lane::Normal, gap_s)?;
    let mut call = pair.dial(Air::thin())?;
    call.finish()?;
    let frames: usize = call.batches.iter().map(|b| b.bytes).sum();
    Ok((frames as f64 - corpus.data.len() as f64) / corpus.len() as f64)
}

/// Bytes of batches before a cut that did not become durable.
#[derive(Clone, Copy, Debug)]
struct Resent {
    /// The link had carried them.
    carried: u64,
    /// The clinic's kernel had them.
    given: u64,
}

/// What each cut has cost. `seconds`: what the backlog takes without cuts.
fn cuts(corpus: &Corpus, gap_s: u32, seconds: f64) -> Result<Vec<Resent>> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    append(&mut pair, corpus, 0..corpus.len(), Lane::Normal, gap_s)?;
    let life_us = (seconds * LIFE_SHARE * 1e6) as u64;
    let mut resent = Vec::new();
    for n in 0..CUTS {
        let before = pair.at_hub();
        let mut call = pair.dial(Air::thin())?;
        // Spread evenly and without a pattern, from where batches can have been sent.
        let share = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        let at_us = call.begun_us + YOUTH_US + ((life_us * share) >> 20);
        call.until_us(at_us)?;
        if call.caught_up > 0 {
            call.finish()?;
            break;
        }
        let left = call.ways[0].left(call.pair.now_us);
        let batches = std::mem::take(&mut call.batches);
        call.cut()?;
        let durable = pair.at_hub() - before;
        let mut resent_now = Resent { carried: 0, given: 0 };
        for batch in batches.iter().filter(|b| b.sent > durable) {
            resent_now.carried += left.saturating_sub(batch.at).min(batch.bytes as u64);
            resent_now.given += batch.bytes as u64;
        }
        resent.push(resent_now);
        // Some time later.
        pair.now_us += 30_000_000;
    }
    pair.dial(Air::thin())?.finish()?;
    if pair.at_hub() != corpus.len() as u64 {
        return Err("events were lost where the link was cut".into());
    }
    Ok(resent)
}

struct Urgent {
    mean_s: f64,
    worst_s: f64,
    target_s: f64,
    frame_s: f64,
}

/// How long it takes until an urgent event is durable at the hub while bulk is under way.
fn urgent() -> Result<Urgent> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    let (bulk, short) = (Corpus::noise(BULK.0, BULK.1), Corpus::noise(URGENT, 1_024));
    append(&mut pair, &bulk, 0..bulk.len(), Lane::Bulk, 1)?;
    let mut call = pair.dial(Air::thin())?;
    call.until_us(call.begun_us + 30_000_000)?;
    let seconds = each_urgent(&mut call, &short, 20_000_000)?;
    if call.caught_up > 0 {
        return Err("the bulk was through before the urgent events".into());
    }
    let longest = call.batches.iter().map(|b| b.bytes).max().unwrap_or(0);
    let air = call.air;
    let frame_s = longest as f64 / air.rate_bytes_per_s as f64;
    Ok(Urgent {
        mean_s: seconds.iter().sum::<f64>() / URGENT as f64,
        worst_s: seconds.iter().copied().fold(0.0, f64::max),
        target_s: 3.0 * air.round_trip_us() as f64 / 1e6 + 2.0 * frame_s,
        frame_s,
    })
}

/// Events of a lane that are durable at the hub.
pub(super) fn in_lane(call: &Call<'_>, lane: Lane) -> u64 {
    let held = call.pair.hosts[HUB].held(NAME);
    held.iter().filter(|(key, _)| key.lane == lane).map(|(_, have)| have).sum()
}

/// Seconds until each of these urgent events is durable at the hub, with `gap_us` and a little more between two of
/// them.
pub(super) fn each_urgent(call: &mut Call<'_>, events: &Corpus, gap_us: u64) -> Result<Vec<f64>> {
    let mut seconds = Vec::new();
    for n in 0..events.len() {
        // Not in step with the frames.
        call.until_us(call.pair.now_us + gap_us + 137_000 * n as u64)?;
        let from_us = call.pair.now_us;
        append(call.pair, events, n..n + 1, Lane::Urgent, 0)?;
        call.until(|c| in_lane(c, Lane::Urgent) == n as u64 + 1)?;
        seconds.push((call.pair.now_us - from_us) as f64 / 1e6);
    }
    Ok(seconds)
}
