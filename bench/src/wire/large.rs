//! One event that takes longer than a thin link lives, and what is urgent behind it.

use ropeway_core::id::Lane;

use super::air::Air;
use super::host::Packing;
use super::link::{each_urgent, in_lane};
use super::{append, home, pair};
use crate::Result;
use crate::corpus::Corpus;

/// No codec makes the event smaller.
const EVENT_BYTES: usize = 200 << 10;
/// A connection breaks after that.
const LIFE_US: u64 = 20_000_000;
/// Between two connections.
const PAUSE_US: u64 = 1_000_000;
/// Connections before the event counts as one that never arrives.
const LIVES_MAX: u64 = 100;
/// How many urgent events are sent behind it.
const URGENT: usize = 4;

/// How a large event got over a link that dies again and again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dying {
    /// From the first dial until it was durable, in seconds; the pauses count.
    pub(super) seconds: f64,
    /// What the clinic has given to TCP, which the link has carried until then or lost at a cut.
    pub(super) bytes: u64,
    pub(super) connections: u64,
}

/// `None`: it does not arrive.
pub(super) fn dying() -> Result<Option<Dying>> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    append(&mut pair, &Corpus::noise(1, EVENT_BYTES), 0..1, Lane::Normal, 0)?;
    let (from_us, mut bytes) = (pair.now_us, 0);
    for n in 1..=LIVES_MAX {
        let mut call = pair.dial(Air::thin())?;
        let end_us = call.begun_us + LIFE_US;
        while call.pair.at_hub() == 0 && call.pair.now_us < end_us {
            let at_us = call.pair.now_us + 100_000;
            call.until_us(at_us.min(end_us))?;
        }
        bytes += call.bytes()[0];
        let seconds = (call.pair.now_us - from_us) as f64 / 1e6;
        let arrived = call.pair.at_hub() == 1;
        call.cut()?;
        if arrived {
            return Ok(Some(Dying { seconds, bytes, connections: n }));
        }
        pair.now_us += PAUSE_US;
    }
    Ok(None)
}

/// Seconds until each of some urgent events of 1 KB is durable at the hub while a large one is under way.
pub(super) fn urgent() -> Result<Vec<f64>> {
    let home = home()?;
    let mut pair = pair(&home, Packing::Model)?;
    append(&mut pair, &Corpus::noise(1, EVENT_BYTES), 0..1, Lane::Bulk, 0)?;
    let short = Corpus::noise(URGENT, 1_024);
    let mut call = pair.dial(Air::thin())?;
    call.until_us(call.begun_us + 10_000_000)?;
    let seconds = each_urgent(&mut call, &short, 8_000_000)?;
    if in_lane(&call, Lane::Bulk) > 0 {
        return Err("the large event was through before the urgent ones".into());
    }
    Ok(seconds)
}

#[test]
fn a_large_event_arrives_over_a_link_that_dies_and_carries_little_twice() {
    let dying = dying().unwrap().unwrap();
    assert!((4..=8).contains(&dying.connections), "{dying:?}");
    assert!(dying.bytes < EVENT_BYTES as u64 * 5 / 4, "{dying:?}");
}

#[test]
fn an_urgent_event_does_not_wait_for_a_large_one() {
    let seconds = urgent().unwrap();
    assert!(seconds.iter().all(|s| *s < 8.0), "{seconds:?}");
}
