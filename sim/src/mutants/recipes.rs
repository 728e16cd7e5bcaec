//! Shapes of runs in which a planted bug shows soon, where the swarm would take many seeds.
//!
//! A fault strikes a host at most twice within a minute or more, so in most recipes the application
//! writes for about a minute.

use ropeway_core::planted::Bug;

use crate::fault::{Fault, Faults};
use crate::mutant::Mutant;
use crate::options::Options;
use crate::profile::Profile;

/// The run in which this mutant shows, but for the seed; `None` for the swarm's.
#[must_use]
pub fn recipe(mutant: Mutant) -> Option<Options> {
    match mutant {
        Mutant::Core(bug) => of_core(bug),
        Mutant::ResumeForgotten | Mutant::ProvisionedEarly => Some(full_up()),
        Mutant::ExpiresUnseen => Some(with(&[Fault::Blackout])),
        Mutant::OpensUnsynced => Some(with(&[Fault::Kill, Fault::Crash, Fault::SlowDisk])),
        _ => None,
    }
}

/// Whether it shows in a crash of the exhaustive test and hardly anywhere else.
pub(super) fn is_exhaustive(mutant: Mutant) -> bool {
    matches!(mutant, Mutant::Core(Bug::SegmentOverrun | Bug::TornTailContinued | Bug::EpochUnlinked))
}

fn of_core(bug: Bug) -> Option<Options> {
    use Fault::{ClockStep, Clone, Crash, Duplicate, Misdirect, ReadError, Rot, WrongClock};
    Some(match bug {
        // An epoch must begin where little more than its header fits.
        Bug::SegmentOverrun => Options { size: 3_000, events: 600, ..with(&[Crash]) },
        Bug::TornTailContinued | Bug::ScanStopsAtDamage => with(&[Crash, Rot]),
        Bug::TamperAccepted => with(&[Crash, Misdirect]),
        Bug::EpochUnlinked => with(&[Crash, Misdirect, Rot]),
        Bug::RecoveryForgetsRepair | Bug::GapClosedShort | Bug::RepairRecordedEarly | Bug::LossUntold => {
            with(&[Crash, Rot, ReadError])
        }
        Bug::DamagedEndContinued => with(&[Crash, Rot]),
        Bug::LostTailIgnored | Bug::ForkUnnoticed => with(&[Crash, Rot, Fault::Restore, Fault::LyingSync]),
        Bug::NewNameUndeclared | Bug::OldNameDeclared => with(&[Crash, Clone, Rot]),
        Bug::ClockNotRestored => with(&[Crash, ClockStep]),
        // More events than the counter counts, all of them behind the last stamp.
        Bug::CounterWraps => Options { clinics: 1, events: 70_000, size: 1, small: false, ..with(&[ClockStep]) },
        Bug::RemoteStampUnbounded => Options { all: true, clinics: 3, ..with(&[WrongClock, ClockStep]) },
        Bug::DuplicateDropsNext | Bug::DuplicateUnacked | Bug::NotSuperseded => {
            Options { profile: cut_often(), ..with(&[Duplicate, Fault::Cut, Fault::Blackout]) }
        }
        Bug::WriteUnauthorized | Bug::DeploymentUnchecked | Bug::FrameBoundUnchecked | Bug::CreditUnchecked => {
            with(&[Fault::Hostile])
        }
        // All at once want to send an event that is nearly as large as the credit.
        Bug::LoanNeverReturned | Bug::LoanNeverExpires => Options {
            clinics: 7,
            events: 140,
            size: 5_000,
            profile: Profile::EDGE,
            ..with(&[Fault::SlowDisk, Fault::Freeze])
        },
        Bug::PausedNeverResumed => full_up(),
        // Many sessions end within a frame, and the hub never starts anew.
        Bug::ArenaLeaks => {
            Options { clinics: 4, events: 400, size: 6_000, profile: cut_often(), ..with(&[Fault::Cut]) }
        }
        Bug::CaughtUpUnacked | Bug::UrgentWaits | Bug::UnsyncedUnflagged => {
            Options { profile: cut_often(), ..with(&[Fault::Cut]) }
        }
        _ => return None,
    })
}

/// Two clinics that write for about half a minute.
fn lan(faults: &[Fault]) -> Options {
    let faults = faults.iter().fold(Faults::NONE, |set, f| set.with(*f));
    Options { clinics: 2, events: 600, profile: Profile::LAN, small: true, faults, ..Options::default() }
}

/// As [`lan`], with the runtime's freedom.
fn with(faults: &[Fault]) -> Options {
    let o = lan(faults);
    Options { faults: o.faults.with(Fault::Chunks).with(Fault::LateWord), ..o }
}

/// A fast link and a slow disk: what comes in finds no room in the log.
fn full_up() -> Options {
    Options { clinics: 4, events: 300, size: 4_000, ..with(&[Fault::SlowDisk]) }
}

/// A link that is cut within most frames.
fn cut_often() -> Profile {
    Profile { cut_every_ms: 2_000, ..Profile::EDGE }
}
