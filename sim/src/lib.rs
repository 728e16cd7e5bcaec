//! A deterministic world for Ropeway: hubs, clinics, links, disks and crashes in virtual time, from
//! one seed, in one thread. The same seed gives the same run, byte for byte. Node and log are the real
//! ones: the core, and the store of `ropeway-std` over a [`Disk`] in memory.
//!
//! [`run`] makes a whole deployment from [`Options`]; [`World`] is what scenarios are written
//! against. Oracles look at every byte that a node sends and at every disk; the first check that
//! fails ends the run.

mod ask;
mod attack;
mod campaign;
mod carrier;
mod check;
mod crew;
mod disk;
mod exhaustive;
mod fault;
mod figures;
mod full;
mod fuzz;
mod guard;
mod host;
mod keep;
mod link;
mod mutant;
mod mutants;
mod options;
mod oracle;
mod plan;
mod plot;
mod profile;
mod pump;
mod repair;
mod replay;
mod report;
mod rng;
mod rule;
mod run;
mod shadow;
mod shrink;
mod step;
mod tap;
mod timeline;
mod truth;
mod world;

pub use campaign::{CampaignOptions, CampaignReport, Failed, FaultUse, MarkUse, Outside, campaign};
pub use carrier::AirTotals;
pub use check::{Check, Failure};
pub use disk::{Disk, Mount};
pub use exhaustive::{Exhausted, exhaustive};
pub use fault::{Fault, Faults};
pub use fuzz::tape as fuzz_tape;
pub use guard::run_guarded;
pub use host::{EPOCH_MS, Host, Stored};
pub use mutant::Mutant;
pub use mutants::{Killed, MutantsOptions, MutantsReport, mutants, recipe};
pub use options::{Options, Stack};
pub use plot::{PlotError, plot};
pub use profile::Profile;
pub use replay::{
    CLINICS_MAX, EVENTS_MAX, FIGURE_MAX, FILE_BYTES_MAX, Repro, SIZE_MAX, options_from_json, options_to_json, repro,
};
pub use report::{NodeReport, Report};
pub use rng::{Rng, TAPE_BYTES};
pub use run::{run, run_tape, run_traced};
pub use shadow::Keeps;
pub use shrink::{Extent, Shrunk, shrink, shrink_repro};
pub use tap::Said;
pub use timeline::{Moment, Timeline};
pub use truth::fingerprint;
pub use world::{Counts, World, small_limits};
