//! Golden budgets: what sessions between two nodes cost on the wire, in bytes of TCP both ways and in round trips.
//! Virtual time and invented events make the figures the same on every machine; keys and nonces differ from run to
//! run, but not in length.

use super::air::Air;
use super::home;
use super::host::Packing;
use super::session::{Kind, cost, known, session, typical};
use super::sync::cold;
use crate::corpus::Corpus;

/// A session with nothing new, over a new connection.
const IDLE: Budget = Budget { name: "IDLE", bytes: 1_373, round_trips: 3.0 };
/// The same, resumed by a ticket.
const IDLE_RESUMED: Budget = Budget { name: "IDLE_RESUMED", bytes: 753, round_trips: 3.0 };
/// One event of usual size over a new connection.
const ONE: Budget = Budget { name: "ONE", bytes: 1_426, round_trips: 3.0 };
/// One event of usual size, resumed.
const ONE_RESUMED: Budget = Budget { name: "ONE_RESUMED", bytes: 806, round_trips: 3.0 };
/// The same with early data, which is an option.
const ONE_EARLY: Budget = Budget { name: "ONE_EARLY", bytes: 848, round_trips: 2.0 };
/// One event of usual size within an open session.
const ONE_OPEN: Budget = Budget { name: "ONE_OPEN", bytes: 97, round_trips: 1.0 };
/// 100 events over a new connection.
const HUNDRED: Budget = Budget { name: "HUNDRED", bytes: 2_726, round_trips: 3.0 };
/// 5,000 events over 2G, cold. Round trips mean nothing here.
const FIVE_THOUSAND: Budget = Budget { name: "FIVE_THOUSAND", bytes: 59_743, round_trips: 0.0 };

/// What a session may cost.
struct Budget {
    /// The constant, for who has to change it.
    name: &'static str,
    bytes: u64,
    round_trips: f64,
}

/// A budget that is larger than what is spent by more than this share holds nothing back.
const LOOSE_SHARE: f64 = 0.02;

impl Budget {
    /// What is wrong, if anything.
    fn check(&self, bytes: u64, round_trips: f64) -> Option<String> {
        let Self { name, bytes: most, round_trips: trips } = self;
        let file = file!();
        if bytes > *most {
            return Some(format!(
                "{name}: {bytes} bytes on the wire, and the budget is {most}. Every byte takes 0.35 ms of a clinic's \
                 2G link: find out what has grown. If it must cost that, raise {name}.bytes in {file} to {bytes} and \
                 say why in the commit."
            ));
        }
        if round_trips > trips + 0.05 {
            return Some(format!(
                "{name}: {round_trips:.2} round trips, and the budget is {trips}. Each takes 600 ms of 2G: find out \
                 who waits for whom. If it must be, raise {name}.round_trips in {file} and say why in the commit."
            ));
        }
        if (bytes as f64) < *most as f64 * (1.0 - LOOSE_SHARE) || round_trips < trips - 0.05 {
            return Some(format!(
                "{name}: better than its budget: {bytes} bytes of {most}, {round_trips:.2} round trips of {trips}. Lower \
                 {name} in {file} to that, so that it is kept."
            ));
        }
        None
    }
}

#[test]
fn no_session_costs_more_than_its_budget() {
    let corpus = Corpus::generated(400);
    let mut told = Vec::new();
    let kinds = [
        (Kind::Idle, IDLE),
        (Kind::IdleResumed, IDLE_RESUMED),
        (Kind::One, ONE),
        (Kind::OneResumed, ONE_RESUMED),
        (Kind::OneEarly, ONE_EARLY),
        (Kind::OneOpen, ONE_OPEN),
    ];
    for (kind, budget) in kinds {
        let cost = cost(kind, &corpus, 1, Packing::Model).unwrap();
        told.extend(budget.check(cost.all(), cost.round_trips));
    }
    let (folder, n) = (home().unwrap(), typical(&corpus));
    let mut pair = known(folder.path(), 1, &corpus, n, Packing::Model).unwrap();
    pair.forget_tickets().unwrap();
    let cost = session(&mut pair, &corpus, n..n + 100).unwrap();
    told.extend(HUNDRED.check(cost.all(), cost.round_trips));
    assert!(told.is_empty(), "\n{}\n", told.join("\n"));
}

#[test]
fn a_cold_backlog_of_5000_events_costs_no_more_than_its_budget() {
    let cold = cold(&Corpus::generated(5_000), 120, Air::thin(), Packing::Model).unwrap();
    let told = FIVE_THOUSAND.check(cold.bytes, 0.0);
    assert!(told.is_none(), "\n{}\n", told.unwrap_or_default());
}

#[test]
fn what_a_hub_knows_of_other_clinics_costs_a_clinic_nothing() {
    let idle = |clinics| cost(Kind::IdleResumed, &Corpus::generated(300), clinics, Packing::Model).unwrap();
    assert_eq!(idle(1), idle(20));
}

#[test]
fn the_same_sync_costs_the_same_bytes_each_time() {
    let corpus = Corpus::generated(60);
    let once = || cold(&corpus, 120, Air::thin(), Packing::Model).unwrap();
    let first = once();
    for _ in 0..4 {
        assert_eq!(once(), first);
    }
}

#[test]
fn a_budget_that_is_exceeded_or_loose_names_the_constant_to_change() {
    let budget = Budget { name: "SMALL", bytes: 1_000, round_trips: 3.0 };
    for (bytes, round_trips) in [(1_000, 3.0), (1_000, 3.01), (985, 3.0)] {
        assert_eq!(budget.check(bytes, round_trips), None);
    }
    let told = |bytes, round_trips| budget.check(bytes, round_trips).unwrap();
    assert!(told(1_001, 3.0).contains("raise SMALL.bytes"));
    assert!(told(1_000, 4.0).contains("raise SMALL.round_trips"));
    assert!(told(970, 3.0).contains("Lower SMALL") && told(1_000, 2.0).contains("Lower SMALL"));
}
