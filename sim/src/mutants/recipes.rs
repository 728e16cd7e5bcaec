//! Shapes of runs in which a planted bug shows soon, where the swarm would take many seeds.

use crate::fault::{Fault, Faults};
use crate::mutant::Mutant;
use crate::options::Options;
use crate::profile::Profile;

/// The run in which this mutant shows, but for the seed; `None` for the swarm's.
#[must_use]
pub fn recipe(mutant: Mutant) -> Option<Options> {
    let _ = mutant;
    let _ = (Fault::Cut, Faults::NONE, Profile::LAN);
    None
}
