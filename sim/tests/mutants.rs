//! Bugs planted in the wiring: if the oracles let one pass, they are blind.

use ropeway_sim::{Faults, Mutant, Options, run};

#[test]
fn without_a_planted_bug_nothing_is_caught() {
    for seed in 0..20 {
        let r = run(&Options { faults: Faults::all(), small: true, ..Options::swarm(seed) });
        assert_eq!(r.failed, None, "{}", r.repro());
    }
}

#[test]
fn a_seed_that_repeats_does_not_repeat_a_salt() {
    // The node mixes what it seals into the salt: its own protection is at work here.
    for seed in 0..20 {
        let r = run(&Options { mutant: Mutant::SeedRepeats, relay: false, ..Options::swarm(seed) });
        assert!(r.failed.is_none_or(|f| f.check != ropeway_sim::Check::NonceOnce));
    }
}
