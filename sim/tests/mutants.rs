//! Bugs planted in the wiring: if the oracles let one pass, they are blind.

use ropeway_sim::{Check, Fault, Faults, Mutant, Options, run};

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
        // A backup that is put back may seal the very same bytes again, which gives nothing away.
        let faults = [Fault::Crash, Fault::Kill, Fault::FailedSync, Fault::SlowDisk];
        let faults = faults.into_iter().fold(Faults::LINK, Faults::with);
        let r = run(&Options { mutant: Mutant::SeedRepeats, relay: false, faults, ..Options::swarm(seed) });
        assert!(r.failed.as_ref().is_none_or(|f| f.check != Check::NonceOnce), "{}", r.repro());
    }
}
