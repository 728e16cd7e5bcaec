//! Bugs that can be planted and branches that can be counted, for a simulator that must prove that
//! it would notice.
//!
//! Each [`Bug`] is a mistake that somebody could make one day, a line or two in the place where it
//! would be made. [`plant`] turns one on for the calling thread; a run over a good oracle must then
//! fail. Marks (`mark!("batch.urgent_first")`) count how often the rare branches are taken: one that
//! a long campaign never reaches is one that it says nothing about.
//!
//! All of it needs the feature `planted`, which no shipped program turns on. Without it `has` is a
//! constant `false` and a mark is nothing at all.
#![cfg_attr(not(feature = "planted"), allow(unreachable_pub, reason = "the module is private then"))]

mod marks;

pub(crate) use marks::mark;
#[cfg(feature = "planted")]
pub use marks::{MARKS, count_mark, take_marks};

macro_rules! bugs {
    ($($bug:ident $name:literal $about:literal)*) => {
        /// A mistake that the code makes if it is asked to.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(#[doc = $about] $bug,)*
        }

        #[cfg(feature = "planted")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];

            /// Its name: words joined by `_`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$bug => $name),* }
            }

            /// What goes wrong, in one sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Bug::$bug => $about),* }
            }
        }
    };
}

bugs! {
    AckBeforeDurable "ack_before_durable" "Events are acknowledged before their group is synced."
    VectorBeforeDurable "vector_before_durable" "The vector tells of events that are not synced."
    SendBeforeDurable "send_before_durable" "Events are sent as soon as they are written, before the sync."
    DurableFromNow "durable_from_now" "A sync makes durable what came after the group was sealed."
    TicketTooEarly "ticket_too_early" "The application hears that an event is durable when it is only written."
    LateWordBelieved "late_word_believed" "A repeated word about an old group counts for the group being written."
    FailedSyncRetried "failed_sync_retried" "After a failed sync the node syncs again and believes the second answer."
    FailedSyncForgotten "failed_sync_forgotten" "After a failed sync the node goes on with the next group."
    FullDiskForGood "full_disk_for_good" "A disk that was full once is never asked again."
    UnprovisionedUsed "unprovisioned_used" "A segment is written to before its file is there."
    SegmentOverrun "segment_overrun" "The page of the epoch header is not counted, so a group may not fit its segment."

    SaltFromPlace "salt_from_place" "The salt of an epoch follows from its place instead of from chance."
    NonceRepeats "nonce_repeats" "All frames of an epoch are sealed with one nonce."
    PlaintextOnDisk "plaintext_on_disk" "Frames are authenticated but not encrypted."
    FrameUnchecked "frame_unchecked" "Neither checksum nor tag of a frame are checked."
    TamperAccepted "tamper_accepted" "A frame whose checksum is right is taken although its tag is wrong."
    EpochUnlinked "epoch_unlinked" "Epoch headers do not link to what precedes them."

    NextPageOffByOne "next_page_off_by_one" "After a restart the log goes on over the last page in use."
    TornTailContinued "torn_tail_continued" "After a torn write the log goes on in the same segment."
    ScanStopsAtDamage "scan_stops_at_damage" "What follows damage in a segment is not read."
    RecoveryForgetsLastEvent "recovery_forgets_last_event" "Recovery leaves out the last event of a run of several."
    LossUntold "loss_untold" "Events that are found to be lost while the node is at work count as held."
    RepairRecordedEarly "repair_recorded_early" "Damage counts as repaired before its events are durable again."
    RecoveryForgetsRepair "recovery_forgets_repair" "Recovery does not put a repaired range into its gap."
    GapTakenForFilled "gap_taken_for_filled" "What a peer sends from behind a gap of its own counts as if the gap were filled."
    HistoryNotRewound "history_not_rewound" "What a peer has dropped for want of history is not sent again."
    EarlyNotRewound "early_not_rewound" "A first flight that the peer could not use is not sent again."
    WithheldUnnoted "withheld_unnoted" "The place of an event that does not come is acknowledged over, and not noted in the log."
    RefusalUntold "refusal_untold" "A hub does not say which events it has refused."
    LackUnwritten "lack_unwritten" "The log does not tell which events a hub lacks that has acknowledged what follows them."
    GapFillUnacked "gap_fill_unacked" "What fills a gap is not acknowledged once the peer has acknowledged what lies behind."
    GapClosedShort "gap_closed_short" "Filling a gap does not join what lies behind it."

    ClockNotRestored "clock_not_restored" "The clock does not continue after the newest stamp of the log."
    StampRepeats "stamp_repeats" "Stamps follow the wall clock even if it stands still or steps back."
    CounterWraps "counter_wraps" "The counter of a stamp wraps instead of carrying."
    RemoteStampUnbounded "remote_stamp_unbounded" "A remote stamp moves the clock however far it is ahead."
    UnsyncedUnflagged "unsynced_unflagged" "Events stamped by a clock that cannot be trusted are not flagged."

    FingerprintIgnored "fingerprint_ignored" "A copied card goes on in the name of the first."
    DamagedEndContinued "damaged_end_continued" "A log whose end is damaged goes on with numbers that may be taken."
    LostTailIgnored "lost_tail_ignored" "A node whose peer holds more of its own stream goes on in it."
    NewNameUndeclared "new_name_undeclared" "A new incarnation is not declared before its first event."
    OldNameDeclared "old_name_declared" "Streams of earlier incarnations are declared as the ones to go on in."
    ForkUnnoticed "fork_unnoticed" "Chain hashes of the two sides are not compared."

    VectorOverHole "vector_over_hole" "The vector tells the highest number although some below are missing."
    GapAccepted "gap_accepted" "A batch is stored although events before it are missing."
    DuplicateDropsNext "duplicate_drops_next" "Behind duplicates the first new event is skipped too."
    DuplicateUnacked "duplicate_unacked" "A batch of events that are all here is not acknowledged."
    ChainUnchecked "chain_unchecked" "The chain hash of a batch is not checked."
    ResumeFromZero "resume_from_zero" "What the peer's vector says it holds is sent again."
    NumberFromDurable "number_from_durable" "The next number follows the last durable event, not the last one."

    ReadUnauthorized "read_unauthorized" "Every peer may read every stream."
    WriteUnauthorized "write_unauthorized" "Every peer may write every stream."
    DeploymentUnchecked "deployment_unchecked" "Peers of another deployment are let in."
    FrameBoundUnchecked "frame_bound_unchecked" "A frame may be longer than what was offered."

    CreditNeverReturned "credit_never_returned" "The credit of batches that were taken is not given back."
    CreditUnchecked "credit_unchecked" "Batches are taken beyond the credit that was given."
    LoanNeverReturned "loan_never_returned" "Credit lent to one session is never lent to another again."
    LoanNeverExpires "loan_never_expires" "A session that does not use its loan keeps it."
    StalledBatchForgotten "stalled_batch_forgotten" "A batch that finds no room in the log is dropped as if it were taken."
    BatchRestForgotten "batch_rest_forgotten" "The rest of a batch that is taken by parts is dropped as if it were taken."
    PausedNeverResumed "paused_never_resumed" "A paused session is not told to go on."
    PartsBeginAgain "parts_begin_again" "What goes in parts goes from its beginning again in each session."
    PartOffsetIgnored "part_offset_ignored" "A part is added to what has come, wherever it belongs."
    PartKeptOfOtherBody "part_kept_of_other_body" "What has come of one batch is taken for the beginning of the next."
    ParcelLeaks "parcel_leaks" "The room of a batch that has come in parts is not used again."
    ArenaLeaks "arena_leaks" "A session that ends within a frame keeps its memory."
    LinksLeak "links_leak" "The links of a session that ends are not used again."

    AckDropped "ack_dropped" "An acknowledgement is dropped if another one waits."
    AckTimerForgotten "ack_timer_forgotten" "No timer is set for an acknowledgement that waits for company."
    ReceiptAtSending "receipt_at_sending" "Events count as acknowledged by a hub as soon as they are sent."
    ReceiptUnwritten "receipt_unwritten" "Acknowledgements by a hub are not noted in the log."
    CaughtUpUnacked "caught_up_unacked" "A session is done when everything is sent, acknowledged or not."
    GoodbyeTooEarly "goodbye_too_early" "GOODBYE is said before everything is sent."
    DigestUnchecked "digest_unchecked" "A peer's digest of the rest is taken to be as ours, whatever it is."
    BucketsUnchecked "buckets_unchecked" "Where digests differ, the buckets are all taken to be the same."
    SampleUnchecked "sample_unchecked" "The model is used although the other end began with another sample."
    BirthUnannounced "birth_unannounced" "A stream that begins during a session is not told of in it."
    UrgentWaits "urgent_waits" "The urgent lane goes last."

    ClosedTwice "closed_twice" "The end of a session is told twice."
    ClosedUntold "closed_untold" "The end of a session whose connection is gone is not told."
    NotSuperseded "not_superseded" "An older session with the same peer stays."
    PingUnsent "ping_unsent" "A silent peer is never asked whether it is there."
    TimerNotRearmed "timer_not_rearmed" "A deadline that has passed stays set."
    WrongParity "wrong_parity" "The index hears of the runs of the wrong group."
}

#[cfg(feature = "planted")]
std::thread_local! {
    static PLANTED: core::cell::Cell<Option<Bug>> = const { core::cell::Cell::new(None) };
}

/// Turns a bug on for the calling thread, or all off.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Runs `f` without the planted bug: oracles use the same codec as the nodes, and must see right.
#[cfg(feature = "planted")]
pub fn spared<T>(f: impl FnOnce() -> T) -> T {
    struct Replant(Option<Bug>);
    impl Drop for Replant {
        fn drop(&mut self) {
            PLANTED.set(self.0);
        }
    }
    let _replant = Replant(PLANTED.take());
    f()
}

#[cfg(feature = "planted")]
pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn has(_: Bug) -> bool {
    false
}

/// The name is that of no bug.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownBug;

#[cfg(feature = "planted")]
impl core::fmt::Display for UnknownBug {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no bug of this name can be planted")
    }
}

#[cfg(feature = "planted")]
impl core::error::Error for UnknownBug {}

#[cfg(feature = "planted")]
impl core::str::FromStr for Bug {
    type Err = UnknownBug;
    fn from_str(s: &str) -> Result<Self, UnknownBug> {
        Bug::ALL.iter().copied().find(|b| b.name() == s).ok_or(UnknownBug)
    }
}

#[cfg(all(test, feature = "planted"))]
mod tests {
    use super::*;
    use std::string::String;

    #[test]
    fn a_bugs_name_is_that_of_its_variant_and_leads_back_to_it() {
        for bug in Bug::ALL {
            let mut words = String::new();
            for c in std::format!("{bug:?}").chars() {
                if c.is_uppercase() && !words.is_empty() {
                    words.push('_');
                }
                words.push(c.to_ascii_lowercase());
            }
            assert_eq!(bug.name(), words);
            assert_eq!(bug.name().parse(), Ok(*bug));
            assert!(bug.about().ends_with('.'));
        }
        assert_eq!("none".parse::<Bug>(), Err(UnknownBug));
    }

    #[test]
    fn each_bug_is_planted_somewhere() {
        let source = marks::tests::source();
        for bug in Bug::ALL {
            let planted = std::format!("has(Bug::{bug:?})");
            assert!(source.contains(&planted), "{bug:?} is planted nowhere");
        }
    }

    #[test]
    fn a_bug_is_planted_in_its_thread_until_it_is_taken_out() {
        assert!(!has(Bug::AckBeforeDurable));
        plant(Some(Bug::AckBeforeDurable));
        assert!(has(Bug::AckBeforeDurable) && !has(Bug::WrongParity));
        assert!(!spared(|| has(Bug::AckBeforeDurable)));
        assert!(has(Bug::AckBeforeDurable));
        plant(None);
        assert!(!has(Bug::AckBeforeDurable));
    }
}
