//! What to run.

use crate::check::Check;
use crate::fault::{Fault, Faults};
use crate::mutant::Mutant;
use crate::profile::Profile;
use crate::rng::{Rng, TAPE_BYTES};

/// What carries the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Stack {
    /// A byte stream with a rate, a delay and cuts: fast.
    #[default]
    Stream,
    /// Mutual TLS over TCP over packets that get lost.
    Full,
}

impl Stack {
    /// Its name on the command line and in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stack::Stream => "stream",
            Stack::Full => "full",
        }
    }
}

impl std::str::FromStr for Stack {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        [Stack::Stream, Stack::Full]
            .into_iter()
            .find(|s| s.name() == name)
            .ok_or_else(|| format!("{name}: choose stream or full"))
    }
}

/// What to run. The same options and the same tape give the same run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where the tape comes from.
    pub seed: u64,
    /// Length of the tape. Once it is over, nothing goes wrong any more.
    pub tape_bytes: u64,
    /// Number of clinics.
    pub clinics: usize,
    /// Number of events, over all clinics.
    pub events: usize,
    /// Mean bytes of a payload; 0 for the usual mix of small ones and a few large.
    pub size: usize,
    /// The link.
    pub profile: Profile,
    /// What carries the frames.
    pub stack: Stack,
    /// What may go wrong.
    pub faults: Faults,
    /// Small segments, groups and credit, so that everything turns over often.
    pub small: bool,
    /// Clinics may read every stream.
    pub all: bool,
    /// A second hub that dials the first.
    pub relay: bool,
    /// Disks do things after which events may be gone for good: only "detected, never falsely
    /// acknowledged" is asked then.
    pub hostile_disk: bool,
    /// A planted bug.
    pub mutant: Mutant,
    /// A check that is switched off, to see what it alone would have caught.
    pub blind: Option<Check>,
}

impl Default for Options {
    /// A hub, five clinics and 5,000 events over a 2G link that is cut now and then.
    fn default() -> Self {
        Self {
            seed: 1,
            tape_bytes: TAPE_BYTES,
            clinics: 5,
            events: 5000,
            size: 0,
            profile: Profile::BHUTAN_2G,
            stack: Stack::Stream,
            faults: Faults::LINK,
            small: false,
            all: false,
            relay: false,
            hostile_disk: false,
            mutant: Mutant::None,
            blind: None,
        }
    }
}

impl Options {
    /// A small run of which the seed chooses everything.
    #[must_use]
    pub fn swarm(seed: u64) -> Self {
        Self { seed, ..Self::draw(&mut Rng::new(seed ^ 0x0005_eed0_fa11)) }
    }

    /// Every knob drawn from a tape.
    #[must_use]
    pub fn draw(tape: &mut Rng) -> Self {
        let mut profile = Profile::ALL[[4, 0, 1, 4, 0, 2, 3, 4][tape.below(8) as usize]];
        if tape.one_in(2) {
            profile.cut_every_ms = tape.between(200, 20_000);
        }
        if tape.one_in(4) {
            profile.down_rate = (profile.down_rate / 8).max(300);
        }
        // Half of the classes are off: faults hide each other.
        let mut faults = Faults::NONE;
        if !tape.one_in(8) {
            for fault in Fault::ALL {
                if tape.one_in(2) {
                    faults = faults.with(fault);
                }
            }
        }
        Self {
            clinics: tape.between(1, 4) as usize,
            events: tape.between(1, 120) as usize,
            profile,
            faults,
            small: !tape.one_in(4),
            all: tape.one_in(4),
            relay: tape.one_in(6),
            stack: if tape.one_in(6) { Stack::Full } else { Stack::Stream },
            ..Self::default()
        }
    }

    /// A run by the name of its profile: a link, `swarm` or `hostile-disk`.
    ///
    /// # Errors
    /// A sentence that lists the names.
    pub fn named(name: &str, seed: u64) -> Result<Self, String> {
        match name {
            "swarm" => Ok(Self::swarm(seed)),
            "hostile-disk" => {
                let disk = [
                    Fault::Crash,
                    Fault::FullDisk,
                    Fault::FailedSync,
                    Fault::ReadError,
                    Fault::Rot,
                    Fault::Misdirect,
                    Fault::LyingSync,
                    Fault::Restore,
                ];
                let faults = disk.into_iter().fold(Faults::LINK, Faults::with);
                let (profile, small) = (Profile::LAN, true);
                Ok(Self {
                    seed,
                    profile,
                    faults,
                    small,
                    hostile_disk: true,
                    clinics: 3,
                    events: 300,
                    ..Self::default()
                })
            }
            _ => Ok(Self { seed, profile: name.parse()?, ..Self::default() }),
        }
    }

    /// The tape of this run.
    #[must_use]
    pub fn tape(&self) -> Rng {
        Rng::seeded(self.seed, self.tape_bytes)
    }
}
