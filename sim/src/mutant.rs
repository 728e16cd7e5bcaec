//! Planted bugs: the core's own ([`Bug`]) and mistakes that a runtime can make, in the simulator's
//! wiring. If the oracles let one pass, they are blind.

use std::fmt;

use ropeway_core::planted::{Bug, plant};

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Mutant {
    /// None.
    #[default]
    None,
    /// A mistake in the core.
    Core(Bug),
    /// The disk says "durable" before it has synced.
    DurableWithoutSync,
    /// A sync forgets a sector.
    SyncForgetsSector,
    /// The log reader changes a byte of a payload.
    ReaderAltersPayload,
    /// The hub runs under `all` where `own` is demanded.
    PolicyIgnored,
    /// A restored card goes on under the salt of its other life: salts repeat.
    SeedRepeats,
    /// A piece of the byte stream is lost and the rest goes on.
    PieceLost,
    /// A piece of the byte stream comes twice.
    PieceTwice,
    /// A paused session is never resumed.
    ResumeForgotten,
    /// "Provisioned" is said before the segment is there.
    ProvisionedEarly,
    /// A failed sync is tried again and the success believed.
    SyncRetried,
    /// A node that lost power starts from an empty disk.
    StartsEmpty,
    /// What opening a log found is believed to be durable.
    OpensUnsynced,
    /// Old events are removed whether they are kept elsewhere or not.
    ExpiresUnseen,
}

/// Name and description of the mistakes in the wiring.
const WIRING: [(Mutant, &str, &str); 13] = [
    (Mutant::DurableWithoutSync, "durable_without_sync", "The runtime says that a group is durable before the sync."),
    (Mutant::SyncForgetsSector, "sync_forgets_sector", "A sync leaves a sector out."),
    (Mutant::ReaderAltersPayload, "reader_alters_payload", "The log reader changes the last byte that it reads."),
    (Mutant::PolicyIgnored, "policy_ignored", "The hub runs under `all` where `own` is demanded."),
    (Mutant::SeedRepeats, "seed_repeats", "Every start of every node gets the same random seed."),
    (Mutant::PieceLost, "piece_lost", "A piece of the byte stream is lost and the rest goes on."),
    (Mutant::PieceTwice, "piece_twice", "A piece of the byte stream comes twice."),
    (Mutant::ResumeForgotten, "resume_forgotten", "The runtime forgets that a paused session may go on."),
    (Mutant::ProvisionedEarly, "provisioned_early", "The runtime says that a segment is there before it is."),
    (Mutant::SyncRetried, "sync_retried", "The runtime takes a failed sync for a good one."),
    (Mutant::StartsEmpty, "starts_empty", "A node that lost power starts from an empty disk."),
    (Mutant::OpensUnsynced, "opens_unsynced", "What opening a log found is believed to be durable without a sync."),
    (Mutant::ExpiresUnseen, "expires_unseen", "Old events are removed whether they are kept elsewhere or not."),
];

/// Bugs that today's checks do not see within some hundred seeds, and what is missing. They can be
/// planted by name; `mutants` does not count them (`mutants --list` lists them).
const UNSEEN: [(Bug, &str); 32] = [
    (Bug::PartsBeginAgain, "not counted: the links live long enough at the end; a scenario sees it"),
    (Bug::PartOffsetIgnored, "not counted: nobody sends a wrong one; a test sees it"),
    (Bug::PartKeptOfOtherBody, "not counted: the next session heals it; a test sees it"),
    (Bug::ParcelLeaks, "not counted: the sessions without room die of silence; a scenario sees it"),
    (Bug::EarlyNotRewound, "not counted: the session dies of silence and the next goes on; a test sees it"),
    (Bug::HistoryNotRewound, "not counted: the next session heals it; a test sees it"),
    (Bug::GapFillUnacked, "not counted: the next session heals it; a test sees it"),
    (Bug::GapTakenForFilled, "not counted: the next session heals it; a scenario sees it"),
    (Bug::PausedNeverResumed, "not counted: the session dies of silence and the next goes on; a scenario sees it"),
    (Bug::TamperAccepted, "not counted: no disk here forges a frame with a right checksum"),
    (Bug::RecoveryForgetsRepair, "not counted: seen once in some 150 seeds; a scenario sees it"),
    (Bug::CounterWraps, "not counted: needs 65,536 events within one stamp; a unit test sees it"),
    (Bug::UnsyncedUnflagged, "not counted: the truth knows no flags"),
    (Bug::DamagedEndContinued, "not counted: rot must hit the last group; a scenario sees it"),
    (Bug::LostTailIgnored, "not counted: a restored clinic syncs before it writes; a scenario sees it"),
    (Bug::NewNameUndeclared, "not counted: needs a crash right after a restore; a scenario sees it"),
    (Bug::OldNameDeclared, "not counted: needs a crash right after a restore; a scenario sees it"),
    (Bug::ForkUnnoticed, "not counted: no forks are made in the swarm; a scenario sees it"),
    (Bug::DuplicateUnacked, "not counted: the next session heals it"),
    (Bug::DeploymentUnchecked, "not counted: nobody of another deployment knocks"),
    (Bug::FrameBoundUnchecked, "not counted: the hostile peer sends no frame of that length; a test sees it"),
    (Bug::CreditUnchecked, "not counted: the hostile peer sends no more than its credit; a test sees it"),
    (Bug::WriteUnauthorized, "not counted: the hostile peer never names another's stream; a test sees it"),
    (Bug::LoanNeverReturned, "not counted: too few sessions want a loan at once; a scenario sees it"),
    (Bug::LoanNeverExpires, "not counted: nobody sits on a loan; a test sees it"),
    (Bug::AckDropped, "not counted: the next acknowledgement heals it"),
    (Bug::AckTimerForgotten, "not counted: a ping heals it; latency is not checked"),
    (Bug::ReceiptUnwritten, "not counted: what a clinic remembers as acknowledged may be less than it is"),
    (Bug::CaughtUpUnacked, "not counted: the next session heals it"),
    (Bug::GoodbyeTooEarly, "not counted: the next session heals it; a scenario sees it"),
    (Bug::UrgentWaits, "not counted: the order of lanes is not checked; a scenario sees it"),
    (Bug::NotSuperseded, "not counted: the old session dies of silence; a scenario sees it"),
];

/// As [`UNSEEN`].
const UNSEEN_WIRING: [(Mutant, &str); 2] = [
    (Mutant::SeedRepeats, "not counted: harmless, what is sealed goes into the salt"),
    (Mutant::ResumeForgotten, "not counted: the session dies of silence and the next goes on"),
];

impl Mutant {
    /// All that the checks must see, the core's first.
    pub fn all() -> impl Iterator<Item = Mutant> {
        let core = Bug::ALL.iter().filter(|b| UNSEEN.iter().all(|u| u.0 != **b));
        core.map(|b| Mutant::Core(*b))
            .chain(WIRING.iter().map(|w| w.0).filter(|m| !UNSEEN_WIRING.iter().any(|u| u.0 == *m)))
    }

    /// Those that the checks do not see, and why.
    pub fn unseen() -> impl Iterator<Item = (Mutant, &'static str)> {
        UNSEEN.iter().map(|(b, why)| (Mutant::Core(*b), *why)).chain(UNSEEN_WIRING)
    }

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Mutant::None => "none",
            Mutant::Core(bug) => bug.name(),
            _ => WIRING.iter().find(|w| w.0 == self).map_or("", |w| w.1),
        }
    }

    /// What goes wrong, in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Mutant::None => "Nothing is wrong.",
            Mutant::Core(bug) => bug.about(),
            _ => WIRING.iter().find(|w| w.0 == self).map_or("", |w| w.2),
        }
    }

    /// The mutant of this name.
    ///
    /// # Errors
    /// A sentence that says where the names are listed.
    pub fn by_name(name: &str) -> Result<Self, String> {
        let all = [Mutant::None].into_iter().chain(Self::all()).chain(Self::unseen().map(|u| u.0));
        all.into_iter()
            .find(|m| m.name() == name)
            .ok_or_else(|| format!("{name}: no such mutant; `mutants` lists them"))
    }

    /// Plants the bug in this thread for as long as the guard lives.
    #[must_use]
    pub(crate) fn planted(self) -> Planted {
        if let Mutant::Core(bug) = self {
            plant(Some(bug));
        }
        Planted
    }
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Takes the bug away again.
#[derive(Debug)]
pub(crate) struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        plant(None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_is_found_by_its_name_and_says_what_is_wrong() {
        for m in Mutant::all() {
            assert_eq!(Mutant::by_name(m.name()), Ok(m));
            assert!(m.about().ends_with('.'), "{m}");
        }
    }
}
