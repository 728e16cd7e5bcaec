//! Marks: how often the rare branches were taken.

#[cfg(feature = "planted")]
use alloc::collections::BTreeMap;

/// Counts that this branch was taken, with the feature `planted`; without it, nothing.
macro_rules! mark {
    ($name:literal) => {
        #[cfg(feature = "planted")]
        $crate::planted::count_mark($name);
    };
}
pub(crate) use mark;

/// All marks there are.
#[cfg(any(test, feature = "planted"))]
pub const MARKS: &[&str] = &[
    "ack.joined_another",
    "ack.several_frames",
    "append.unsynced",
    "batch.all_duplicates",
    "batch.blocked_by_size",
    "batch.expired",
    "batch.out_of_credit",
    "batch.parts_cost_a_state",
    "batch.passed_on",
    "batch.read_too_late",
    "batch.repairs_gap",
    "batch.some_duplicates",
    "batch.taken_by_parts",
    "batch.unreadable",
    "batch.urgent_gave_way",
    "batch.urgent_overtook_bulk",
    "batch.waits_for_room",
    "batch.window_full",
    "commit.disk_full",
    "commit.epoch_within_segment",
    "commit.failed",
    "commit.grew_during_sync",
    "commit.group_full",
    "commit.late_word",
    "commit.next_segment",
    "commit.parent_declared",
    "commit.provision_failed",
    "commit.receipts_wait",
    "commit.segment_awaited",
    "commit.segment_left",
    "credit.blocked",
    "credit.loan_granted",
    "credit.loan_returned",
    "credit.loan_waits",
    "digest.differs",
    "digest.grew",
    "digest.lacking_part",
    "digest.same",
    "digest.sent",
    "digest.unanswered",
    "early.dropped",
    "early.refused",
    "early.sent_in_vain",
    "early.too_large",
    "floor.raised_in_session",
    "floor.sent",
    "floor.session_ended",
    "floor.taken",
    "fork.at_batch",
    "fork.at_duplicates",
    "fork.at_vector",
    "fork.at_withheld",
    "fork.in_gap",
    "fork.told",
    "goodbye.answered",
    "goodbye.came_back",
    "goodbye.kept_back",
    "goodbye.said_early",
    "goodbye.void",
    "goodbye.withdrawn",
    "history.bounded",
    "history.cut",
    "history.dropped",
    "history.evicted",
    "history.goes_on",
    "history.lacking",
    "history.read_to_receive",
    "history.read_to_send",
    "history.refused",
    "history.waits_for_sync",
    "hlc.counter_carried",
    "hlc.future_stamp",
    "hlc.wall_behind",
    "hostile.beyond_credit",
    "hostile.deployment",
    "hostile.frame_too_large",
    "hostile.gap",
    "hostile.origin",
    "hostile.parcel",
    "hostile.part",
    "hostile.part_beyond",
    "hostile.tampered_frame",
    "hostile.too_many_streams",
    "link.beyond_peers_gap",
    "log.crc_rotten",
    "log.damage_inside",
    "log.header_recalled",
    "log.header_repaired",
    "log.torn_tail",
    "log.unreadable_page",
    "node.copied",
    "node.end_at_risk",
    "node.left_after_fork",
    "node.left_after_rollback",
    "part.begun_anew",
    "part.comes_for_nothing",
    "part.duplicate",
    "part.evicted",
    "part.given_up",
    "part.kept",
    "part.lost_by_peer",
    "part.packed",
    "part.replaced",
    "part.resumed",
    "part.waits_for_room",
    "part.whole",
    "part.whole_after_all",
    "receive.paused_by_arena",
    "receive.paused_by_log",
    "receive.resumed",
    "receive.still_no_room",
    "recovery.damaged",
    "recovery.gap",
    "recovery.gap_closed",
    "recovery.gaps_merged",
    "recovery.repair",
    "repair.doubt_settled",
    "repair.lost",
    "repair.noted",
    "sample.differs",
    "session.birth_announced",
    "session.ended_within_frame",
    "session.error_came",
    "session.no_slot",
    "session.superseded",
    "stream.forgotten",
    "stream.gap_closed",
    "stream.grew_beyond_gap",
    "timer.ack",
    "timer.hello",
    "timer.loan",
    "timer.loan_while_paused",
    "timer.part",
    "timer.part_while_paused",
    "timer.ping",
    "timer.progress",
    "timer.silence",
    "timer.silence_while_paused",
    "vector.below_gap",
    "vector.resumed_below_top",
    "vector.several_frames",
    "withheld.came_after_all",
    "withheld.damaged_here",
    "withheld.duplicate",
    "withheld.lacked_by_peer",
    "withheld.over_peers_limits",
    "withheld.passed_on",
    "withheld.refused",
    "withheld.refused_by_rule",
    "withheld.taken",
];

#[cfg(feature = "planted")]
std::thread_local! {
    static COUNTS: core::cell::RefCell<BTreeMap<&'static str, u64>> =
        const { core::cell::RefCell::new(BTreeMap::new()) };
}

/// Counts one. For the macro `mark!`.
#[cfg(feature = "planted")]
pub fn count_mark(name: &'static str) {
    COUNTS.with_borrow_mut(|counts| *counts.entry(name).or_default() += 1);
}

/// What the calling thread has counted since the last call.
#[cfg(feature = "planted")]
#[must_use]
pub fn take_marks() -> BTreeMap<&'static str, u64> {
    COUNTS.take()
}

#[cfg(test)]
pub(super) mod tests {
    use super::MARKS;
    use std::collections::BTreeSet;
    use std::path::Path;
    use std::string::String;

    /// The crate's source without these two files.
    pub(in crate::planted) fn source() -> String {
        fn add(dir: &Path, all: &mut String) {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    add(&path, all);
                } else if !path.ends_with("planted.rs") && !path.ends_with("marks.rs") {
                    all.push_str(&std::fs::read_to_string(&path).unwrap());
                }
            }
        }
        let mut all = String::new();
        add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
        all
    }

    #[test]
    fn each_mark_stands_in_one_place_and_each_is_registered() {
        let source = source();
        let found: std::vec::Vec<&str> =
            source.split("mark!(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let (once, registered) = (BTreeSet::from_iter(&found), BTreeSet::from_iter(MARKS));
        assert_eq!(once.len(), found.len(), "a mark stands in two places");
        assert_eq!(registered.len(), MARKS.len(), "a mark is registered twice");
        assert_eq!(once, registered);
        assert!(MARKS.is_sorted());
    }

    #[cfg(feature = "planted")]
    #[test]
    fn marks_are_counted_until_they_are_taken() {
        let _ = super::take_marks();
        super::count_mark(MARKS[0]);
        super::count_mark(MARKS[0]);
        assert_eq!(super::take_marks().get(MARKS[0]), Some(&2));
        assert!(super::take_marks().is_empty());
    }
}
