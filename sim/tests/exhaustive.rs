//! Every crash of one small scenario, and proof that a mistake in recovery would be seen.

use ropeway_core::planted::Bug;
use ropeway_sim::{Check, Mutant, exhaustive};

#[test]
fn every_crash_of_the_small_scenario_is_survived() {
    let all = exhaustive(Mutant::None, u64::MAX);
    println!("{all}");
    assert_eq!(all.failed, None, "{all}");
    // It is what it says: groups of several pages and sectors, and none so large that subsets are left out.
    assert!(all.sectors_max >= 9 && all.thinned + all.garbage_thinned == 0, "{all}");
    assert!(all.images > 1000 && all.second_images > 1000 && all.sessions > 90, "{all}");
}

#[test]
fn it_stops_where_it_is_told_to() {
    assert_eq!(exhaustive(Mutant::None, 20).images, 20);
}

/// A planted bug is seen, by this check.
fn assert_seen(mutant: Mutant, by: Check) {
    let failed = exhaustive(mutant, u64::MAX).failed;
    assert_eq!(failed.as_ref().map(|f| f.check), Some(by), "{mutant}: {failed:?}");
}

#[test]
fn a_torn_or_used_page_that_is_written_again_is_seen() {
    assert_seen(Mutant::Core(Bug::TornTailContinued), Check::NeverOverwritten);
    assert_seen(Mutant::Core(Bug::NextPageOffByOne), Check::NeverOverwritten);
}

#[test]
fn an_event_that_recovery_leaves_out_is_seen() {
    assert_seen(Mutant::Core(Bug::RecoveryForgetsLastEvent), Check::AsAppended);
    assert_seen(Mutant::StartsEmpty, Check::Durable);
    // The header that was forgotten is found in its copy, which tells of it.
    assert_seen(Mutant::SyncForgetsSector, Check::DamageBounded);
}

#[test]
fn torn_bytes_that_are_believed_are_seen() {
    assert_seen(Mutant::Core(Bug::FrameUnchecked), Check::DamageBounded);
}

#[test]
fn a_salt_that_comes_again_after_a_crash_is_seen() {
    assert_seen(Mutant::Core(Bug::SaltFromPlace), Check::NonceOnce);
}

#[test]
fn segments_that_do_not_link_or_overflow_are_seen() {
    assert_seen(Mutant::Core(Bug::EpochUnlinked), Check::DamageBounded);
    assert_seen(Mutant::Core(Bug::SegmentOverrun), Check::LogOpens);
    assert_seen(Mutant::Core(Bug::UnprovisionedUsed), Check::LogOpens);
}

#[test]
fn a_clock_that_forgets_what_it_stamped_is_seen() {
    assert_seen(Mutant::Core(Bug::ClockNotRestored), Check::ClockGrows);
}

#[test]
fn what_is_told_before_it_is_synced_is_seen() {
    assert_seen(Mutant::DurableWithoutSync, Check::WireDurable);
    assert_seen(Mutant::Core(Bug::AckBeforeDurable), Check::WireDurable);
    assert_seen(Mutant::Core(Bug::ReceiptAtSending), Check::Acknowledged);
}
