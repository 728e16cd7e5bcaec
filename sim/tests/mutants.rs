//! Bugs planted in the wiring: if the oracles let one pass, they are blind.

use ropeway_sim::{Mutant, Options, run};

/// What the oracles say of a planted bug, over a number of seeds.
fn caught(mutant: Mutant, seeds: u64) -> Vec<String> {
    let with = |seed| Options { mutant, faults: true, clinics: 2, events: 60, small: true, ..Options::swarm(seed) };
    (0..seeds).filter_map(|seed| run(&with(seed)).failed).collect()
}

fn assert_caught(mutant: Mutant, words: &str) {
    let all = caught(mutant, 20);
    assert!(all.iter().any(|why| why.contains(words)), "{mutant:?}: {all:?}");
}

#[test]
fn without_a_planted_bug_nothing_is_caught() {
    assert_eq!(caught(Mutant::None, 20), Vec::<String>::new());
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    assert_caught(Mutant::DurableWithoutSync, "synced is");
}

#[test]
fn a_disk_that_forgets_a_sector_is_caught() {
    assert_caught(Mutant::SyncForgetsSector, "was durable to");
}

#[test]
fn a_reader_that_alters_a_byte_is_caught() {
    assert_caught(Mutant::ReaderAltersPayload, "are not what was appended");
}

#[test]
fn a_hub_that_forgets_its_policy_is_caught() {
    let all = caught(Mutant::PolicyIgnored, 20);
    assert!(all.iter().any(|why| why.contains("was told of the stream") || why.contains("was sent the name")));
}

#[test]
fn a_seed_that_repeats_does_not_repeat_a_salt() {
    // The node mixes what it seals into the salt: its own protection is at work here.
    assert_eq!(caught(Mutant::SeedRepeats, 20), Vec::<String>::new());
}
