//! What can go wrong in a run, by class, so that a run can do without some of them.

use std::fmt;

/// A class of faults, or of freedom that a runtime has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Connections break at any byte; both sides hear of it, one, or none (half-open).
    Cut,
    /// A link is dead for seconds to days.
    Blackout,
    /// Bytes are held up for seconds, as a lost packet holds up those behind it.
    Stall,
    /// A connection that was idle for long is dead and nobody is told (NAT).
    IdleKill,
    /// A second connection of the same node while the first is open.
    Duplicate,
    /// Power off, anywhere; on again later.
    Crash,
    /// A process is killed and started again; what it wrote is still in the page cache.
    Kill,
    /// A process stops for a while and goes on.
    Freeze,
    /// A wall clock that starts in 1970 or 2099.
    WrongClock,
    /// A wall clock that steps, back or ahead, by seconds to years.
    ClockStep,
    /// A wall clock that runs too fast or too slow.
    Drift,
    /// Syncs of seconds.
    SlowDisk,
    /// No room for another segment for a while.
    FullDisk,
    /// A sync that fails, drops what it had, and reports success the next time.
    FailedSync,
    /// Sectors that cannot be read for a while.
    ReadError,
    /// Bits that turn over, where another node holds the same events.
    Rot,
    /// A write that lands elsewhere, where another node holds the same events.
    Misdirect,
    /// A disk that says "synced" and is not, where another node holds the same events.
    LyingSync,
    /// An old backup is put back.
    Restore,
    /// A copied card comes to life in another machine, beside the first.
    Clone,
    /// A peer with a good certificate that says anything.
    Hostile,
    /// Bytes come and go in pieces down to one byte.
    Chunks,
    /// Completions come late, twice and merged.
    LateWord,
    /// A socket that takes nothing for a long time.
    Refusal,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 24] = [
        Fault::Cut,
        Fault::Blackout,
        Fault::Stall,
        Fault::IdleKill,
        Fault::Duplicate,
        Fault::Crash,
        Fault::Kill,
        Fault::Freeze,
        Fault::WrongClock,
        Fault::ClockStep,
        Fault::Drift,
        Fault::SlowDisk,
        Fault::FullDisk,
        Fault::FailedSync,
        Fault::ReadError,
        Fault::Rot,
        Fault::Misdirect,
        Fault::LyingSync,
        Fault::Restore,
        Fault::Clone,
        Fault::Hostile,
        Fault::Chunks,
        Fault::LateWord,
        Fault::Refusal,
    ];

    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::Cut => "cut",
            Fault::Blackout => "blackout",
            Fault::Stall => "stall",
            Fault::IdleKill => "idle-kill",
            Fault::Duplicate => "duplicate",
            Fault::Crash => "crash",
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::WrongClock => "wrong-clock",
            Fault::ClockStep => "clock-step",
            Fault::Drift => "drift",
            Fault::SlowDisk => "slow-disk",
            Fault::FullDisk => "full-disk",
            Fault::FailedSync => "failed-sync",
            Fault::ReadError => "read-error",
            Fault::Rot => "rot",
            Fault::Misdirect => "misdirect",
            Fault::LyingSync => "lying-sync",
            Fault::Restore => "restore",
            Fault::Clone => "clone",
            Fault::Hostile => "hostile",
            Fault::Chunks => "chunks",
            Fault::LateWord => "late-word",
            Fault::Refusal => "refusal",
        }
    }
    /// What happens, in one sentence.
    #[must_use]
    pub fn about(self) -> &'static str {
        match self {
            Fault::Cut => "Connections break at any byte; both sides hear of it, one, or none (half-open).",
            Fault::Blackout => "A link is dead for seconds to days.",
            Fault::Stall => "Bytes are held up for seconds, as a lost packet holds up those behind it.",
            Fault::IdleKill => "A connection that was idle for long is dead and nobody is told (NAT).",
            Fault::Duplicate => "A second connection of the same node while the first is open.",
            Fault::Crash => "Power off, anywhere; on again later.",
            Fault::Kill => "A process is killed and started again; what it wrote is still in the page cache.",
            Fault::Freeze => "A process stops for a while and goes on.",
            Fault::WrongClock => "A wall clock that starts in 1970 or 2099.",
            Fault::ClockStep => "A wall clock that steps, back or ahead, by seconds to years.",
            Fault::Drift => "A wall clock that runs too fast or too slow.",
            Fault::SlowDisk => "Syncs of seconds.",
            Fault::FullDisk => "No room for another segment for a while.",
            Fault::FailedSync => "A sync that fails, drops what it had, and reports success the next time.",
            Fault::ReadError => "Sectors that cannot be read for a while.",
            Fault::Rot => "Bits that turn over, where another node holds the same events.",
            Fault::Misdirect => "A write that lands elsewhere, where another node holds the same events.",
            Fault::LyingSync => {
                "A disk that says that it has synced and has not, where another node holds the same events."
            }
            Fault::Restore => "An old backup is put back.",
            Fault::Clone => "A copied card comes to life in another machine, beside the first.",
            Fault::Hostile => "A peer with a good certificate that says anything.",
            Fault::Chunks => "Bytes come and go in pieces down to one byte.",
            Fault::LateWord => "Completions come late, twice and merged.",
            Fault::Refusal => "A socket that takes nothing for a long time.",
        }
    }
}

/// A set of [`Fault`]s.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults(u32);

impl Faults {
    /// Nothing goes wrong, and the runtime uses none of its freedom.
    pub const NONE: Faults = Faults(0);
    /// What an ordinary bad link and an ordinary runtime do.
    pub const LINK: Faults = Faults(1 << Fault::Cut as u32 | 1 << Fault::Chunks as u32 | 1 << Fault::LateWord as u32);

    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Fault::ALL.into_iter().fold(Self::NONE, Self::with)
    }

    /// The set and this one.
    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Faults(self.0 | 1 << fault as u32)
    }

    /// The set without this one.
    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Faults(self.0 & !(1 << fault as u32))
    }

    /// Whether it is in the set.
    #[must_use]
    pub fn has(self, fault: Fault) -> bool {
        self.0 & 1 << fault as u32 != 0
    }

    /// Those in the set.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |f| self.has(*f))
    }

    /// Names parted by commas, `all` or `none`.
    ///
    /// # Errors
    /// A sentence that names what is not known and lists what is.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "all" => return Ok(Self::all()),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let mut set = Self::NONE;
        for name in text.split(',').filter(|n| !n.is_empty()) {
            let Some(fault) = Fault::ALL.into_iter().find(|f| f.name() == name) else {
                let all = Fault::ALL.map(Fault::name).join(", ");
                return Err(format!("{name}: no such fault; choose from all, none, {all}"));
            };
            set = set.with(fault);
        }
        Ok(set)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NONE => f.pad("none"),
            all if all == Self::all() => f.pad("all"),
            _ => f.pad(&self.iter().map(Fault::name).collect::<Vec<_>>().join(",")),
        }
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_read_as_it_is_written() {
        for set in [Faults::NONE, Faults::all(), Faults::LINK, Faults::LINK.with(Fault::Rot).without(Fault::Cut)] {
            assert_eq!(Faults::parse(&set.to_string()), Ok(set));
        }
        assert!(Faults::parse("cut,flood").is_err_and(|e| e.starts_with("flood")));
    }
}
