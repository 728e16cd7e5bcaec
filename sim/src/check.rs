//! The oracles: what is held against the truth, step by step and at the end.

use std::fmt;

/// What can fail. Shrinking keeps to the same check, and `mutants` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Check {
    /// What was reported durable is there after every crash that the disk allows.
    Durable,
    /// What was reported acknowledged is on a synced disk of the hub.
    Acknowledged,
    /// Nothing that is not synced is told or sent.
    WireDurable,
    /// An event read or sent anywhere is what its origin appended, in its place.
    AsAppended,
    /// A stream has no hole, and its chain verifies.
    NoHoles,
    /// A number is given to one event only.
    NumberOnce,
    /// Stamps grow strictly within a stream.
    ClockGrows,
    /// No stamp is further ahead than the clocks that a node may believe, and the bound.
    ClockBound,
    /// No page is sealed twice under one salt, over all clones and restores.
    NonceOnce,
    /// A page that was durable, or that a crash has torn, is never written again.
    NeverOverwritten,
    /// No payload stands on a disk in plain.
    Secrets,
    /// A clinic is sent nothing about another clinic's streams.
    Policy,
    /// Nobody adds to another node's stream.
    Origin,
    /// What is sent can be read by a decoder of its own.
    WireForm,
    /// A node comes to rest, its next deadline lies ahead, and it does not spin.
    Rest,
    /// One `Closed` for each `open`.
    ClosedOnce,
    /// A log opens, whatever the disk has done to it.
    LogOpens,
    /// Opening a log writes nothing, and gives the same again.
    Recovery,
    /// What a power cut leaves is not taken for damage.
    DamageBounded,
    /// An append is refused only for a reason that there is.
    Refusal,
    /// Honest peers never accuse each other.
    HonestPeers,
    /// Bytes are read from the disk as the runtime was asked to, and no others.
    ReadsAsAsked,
    /// A node's memory and its session slots come back.
    Slots,
    /// With all faults over, everything arrives within the time allowed.
    Converges,
    /// With everything in place, a session of each node ends cleanly and carries no event.
    CleanEnd,
    /// All nodes hold what the policy gives them: the same events in the same order.
    SameEverywhere,
    /// Bytes on the wire stay within a multiple of what was needed.
    Bytes,
    /// Nothing is removed that no hub has synced, or, at a hub, that is not in its backup.
    Expired,
    /// An event whose place stands in a log was refused for a reason that there is, and both ends know of it.
    Withheld,
    /// The same tape gives the same run.
    Deterministic,
    /// Damage that was found is told of in the log, and what counts as repaired is there.
    Repaired,
    /// Nothing panics.
    NoPanic,
}

impl Check {
    /// All of them.
    pub const ALL: [Check; 32] = [
        Check::Durable,
        Check::Acknowledged,
        Check::WireDurable,
        Check::AsAppended,
        Check::NoHoles,
        Check::NumberOnce,
        Check::ClockGrows,
        Check::ClockBound,
        Check::NonceOnce,
        Check::NeverOverwritten,
        Check::Secrets,
        Check::Policy,
        Check::Origin,
        Check::WireForm,
        Check::Rest,
        Check::ClosedOnce,
        Check::LogOpens,
        Check::Recovery,
        Check::DamageBounded,
        Check::Refusal,
        Check::HonestPeers,
        Check::ReadsAsAsked,
        Check::Slots,
        Check::Converges,
        Check::CleanEnd,
        Check::SameEverywhere,
        Check::Bytes,
        Check::Expired,
        Check::Withheld,
        Check::Deterministic,
        Check::Repaired,
        Check::NoPanic,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Check::Durable => "durable",
            Check::Acknowledged => "acknowledged",
            Check::WireDurable => "wire-durable",
            Check::AsAppended => "as-appended",
            Check::NoHoles => "no-holes",
            Check::NumberOnce => "number-once",
            Check::ClockGrows => "clock-grows",
            Check::ClockBound => "clock-bound",
            Check::NonceOnce => "nonce-once",
            Check::NeverOverwritten => "never-overwritten",
            Check::Secrets => "secrets",
            Check::Policy => "policy",
            Check::Origin => "origin",
            Check::WireForm => "wire-form",
            Check::Rest => "rest",
            Check::ClosedOnce => "closed-once",
            Check::LogOpens => "log-opens",
            Check::Recovery => "recovery",
            Check::DamageBounded => "damage-bounded",
            Check::Refusal => "refusal",
            Check::HonestPeers => "honest-peers",
            Check::ReadsAsAsked => "reads-as-asked",
            Check::Slots => "slots",
            Check::Converges => "converges",
            Check::CleanEnd => "clean-end",
            Check::SameEverywhere => "same-everywhere",
            Check::Bytes => "bytes",
            Check::Expired => "expired",
            Check::Withheld => "withheld",
            Check::Deterministic => "deterministic",
            Check::Repaired => "repaired",
            Check::NoPanic => "no-panic",
        }
    }

    /// What is asked, in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Check::NeverOverwritten => {
                "A page that holds something durable is not written to, except again with the same."
            }
            Check::Recovery => {
                "Opening is the same each time, and what is written after it is there after the next crash."
            }
            Check::Durable => "What was reported durable is there after every crash that the disk allows.",
            Check::Acknowledged => "What was reported acknowledged is on a synced disk of the hub.",
            Check::WireDurable => "Nothing that is not synced is told or sent.",
            Check::AsAppended => "An event read or sent anywhere is what its origin appended, in its place.",
            Check::NoHoles => "A stream has no hole, and its chain verifies.",
            Check::NumberOnce => "A number is given to one event only.",
            Check::ClockGrows => "Stamps grow strictly within a stream.",
            Check::ClockBound => "No stamp is further ahead than the clocks that a node may believe, and the bound.",
            Check::NonceOnce => "No page is sealed twice under one salt, over all clones and restores.",
            Check::Secrets => "No payload stands on a disk in plain.",
            Check::Policy => "A clinic is sent nothing about another clinic's streams.",
            Check::Origin => "Nobody adds to another node's stream.",
            Check::WireForm => "What is sent can be read by a decoder of its own.",
            Check::Rest => "A node comes to rest, its next deadline lies ahead, and it does not spin.",
            Check::ClosedOnce => "One `Closed` for each `open`.",
            Check::LogOpens => "A log opens, whatever the disk has done to it.",
            Check::DamageBounded => "What a power cut leaves is not taken for damage.",
            Check::Refusal => "An append is refused only for a reason that there is.",
            Check::HonestPeers => "Honest peers never accuse each other.",
            Check::ReadsAsAsked => "A stream that is read from its middle on yields what reading it whole yields.",
            Check::Slots => "A node's memory and its session slots come back.",
            Check::Converges => "With all faults over, everything arrives within the time allowed.",
            Check::CleanEnd => "With everything in place, a session of each node ends cleanly and carries no event.",
            Check::SameEverywhere => "All nodes hold what the policy gives them: the same events in the same order.",
            Check::Bytes => "Bytes on the wire stay within a multiple of what was needed.",
            Check::Expired => "Nothing is removed that no hub has synced, or, at a hub, that is not in its backup.",
            Check::Withheld => {
                "An event that only has its place in a log was refused for a reason that there is, and both ends know it."
            }
            Check::Deterministic => "The same tape gives the same run.",
            Check::Repaired => "Damage that was found is told of in the log; what counts as repaired is there.",
            Check::NoPanic => "Nothing panics.",
        }
    }

    /// The check of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|c| c.name() == name)
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The first check that failed in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which.
    pub check: Check,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.check, self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_found_by_its_name() {
        for c in Check::ALL {
            assert_eq!(Check::by_name(c.name()), Some(c));
        }
    }
}
