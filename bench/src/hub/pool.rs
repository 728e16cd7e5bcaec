//! The hub's pool of the model's states: how often the one that is wanted is there, and what it costs if not.

use super::HubArgs;
use super::fleet::{Coming, Fleet, Sum};
use super::visit::Visited;
use super::watch::{MODEL, Tally};
use crate::Result;
use crate::corpus::Corpus;
use crate::dice::Dice;
use crate::progress::bar;
use crate::table::{Cell, Table};
use crate::wire::host::Packing;

/// Between two sessions, in microseconds: the hub has all the time that it wants.
const PAUSE_US: u64 = 10_000_000;
/// A pool is warm after so many sessions, at the latest.
const WARM_UP: usize = 100;
const SEED: u64 = 2026;

/// Who comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pattern {
    InTurn,
    FewBusy,
}

impl Pattern {
    fn words(self) -> &'static str {
        match self {
            Self::InTurn => "each in turn",
            Self::FewBusy => "few busy, many quiet",
        }
    }
}

pub(super) fn measure(corpus: &Corpus, args: &HubArgs) -> Result<Table> {
    let mut table = Table::new(
        "pool",
        format!("The hub's pool of states: sessions with one event ({}), one after the other", corpus.name),
        &[
            ("pattern", "who comes"),
            ("clinics", "clinics"),
            ("states", "states"),
            ("sessions", "sessions"),
            ("hit_percent", "state was there (%)"),
            ("learned_kb_per_miss", "learned if not (KB)"),
            ("miss_ms", "decoding then (ms)"),
            ("hub_cpu_ms", "hub (ms/session)"),
            ("frame_bytes", "frames (B/session)"),
        ],
    );
    for &clinics in &args.clinics {
        let clinics = usize::from(clinics);
        let mut fleet = Fleet::new(clinics, corpus)?;
        // A pool with a state for each is as good as any larger one.
        let enough = args.states.iter().position(|&states| usize::from(states) >= clinics);
        let sizes = &args.states[..enough.map_or(args.states.len(), |n| n + 1)];
        let bar = bar(&format!("pools of {clinics} clinics"), 2 * sizes.len() as u64 * u64::from(args.visits));
        for pattern in [Pattern::InTurn, Pattern::FewBusy] {
            for &states in sizes {
                let states = usize::from(states);
                fleet.serve(states)?;
                let mut dice = Dice::new(SEED);
                let mut who = (0..).map(|n: usize| match pattern {
                    Pattern::InTurn => n % clinics,
                    Pattern::FewBusy => dice.zipf(clinics),
                });
                let warm_up = (2 * clinics.min(states)).min(WARM_UP);
                for clinic in who.by_ref().take(warm_up) {
                    visit(&mut fleet, clinic)?;
                }
                let mut visited = Vec::new();
                for clinic in who.take(args.visits as usize) {
                    visited.push(visit(&mut fleet, clinic)?);
                    bar.inc(1);
                }
                table.row(row(pattern, clinics, states, &visited));
            }
        }
        bar.finish_and_clear();
    }
    table.note(
        "Each session is that of a process which ends with it (`ropeway sync`). Few busy, many quiet: the clinic with number n \
         comes with a weight of 1/n. The hub has 96 KiB of each clinic's events before. No TLS.",
    );
    Ok(table)
}

fn visit(fleet: &mut Fleet<'_>, clinic: usize) -> Result<Visited> {
    let at_us = fleet.now_us + PAUSE_US;
    let mut visited = fleet.run(&[Coming { at_us, clinic, events: 1 }], Packing::Model)?;
    visited.pop().ok_or_else(|| "nobody came".into())
}

fn row(pattern: Pattern, clinics: usize, states: usize, visited: &[Visited]) -> Vec<Cell> {
    let mut model = Tally::default();
    visited.iter().for_each(|v| model.add(&v.tallies[MODEL]));
    let all = Sum::of(visited.iter());
    let misses = model.primed - model.hits;
    let per_miss = |n: f64| (misses > 0).then(|| n / misses as f64);
    vec![
        Cell::Text(pattern.words().into()),
        Cell::Count(clinics as u64),
        Cell::Count(states as u64),
        Cell::Count(all.visits),
        Cell::Figure(model.hits as f64 * 100.0 / model.primed.max(1) as f64, 1),
        Cell::maybe(per_miss(model.learned as f64 / 1024.0), 1),
        Cell::maybe(per_miss(model.miss_cpu.as_secs_f64() * 1e3), 1),
        Cell::Figure(all.hub_cpu.as_secs_f64() * 1e3 / all.visits.max(1) as f64, 2),
        Cell::maybe(all.bytes_each(), 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_with_a_state_for_each_clinic_is_seldom_asked_in_vain_and_a_smaller_one_always() {
        let corpus = Corpus::generated(1_000);
        let mut fleet = Fleet::new(3, &corpus).unwrap();
        let mut hits = |states: usize| {
            fleet.serve(states).unwrap();
            let visited: Vec<_> = (0..15).map(|n| visit(&mut fleet, n % 3).unwrap()).collect();
            assert!(visited.iter().all(Visited::is_model));
            visited.iter().map(|v| v.tallies[MODEL].hits).sum::<u64>()
        };
        // Each learns when it comes first, and once more at most: when its history begins later.
        assert!(hits(3) >= 9);
        assert_eq!(hits(2), 0);
    }

    #[test]
    fn a_state_is_found_again_also_where_all_events_that_are_read_for_it_are_less_than_it_may_learn() {
        let corpus = Corpus::of("tiny", (0..2_000).map(|n| format!("{{\"t\":{}}}", n * n % 97).into_bytes()));
        let mut fleet = Fleet::new(1, &corpus).unwrap();
        fleet.serve(1).unwrap();
        let hits: Vec<_> = (0..8).map(|_| visit(&mut fleet, 0).unwrap().tallies[MODEL].hits).collect();
        assert!(hits[1..].iter().filter(|hit| **hit == 0).count() <= 1, "{hits:?}");
    }
}
