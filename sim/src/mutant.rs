//! Bugs planted in the simulator's own wiring: the mistakes that a runtime can make. If the oracles
//! let one pass, they are blind.

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Mutant {
    /// None.
    #[default]
    None,
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
}

impl Mutant {
    /// All that are none.
    pub const WIRING: [Mutant; 11] = [
        Mutant::DurableWithoutSync,
        Mutant::SyncForgetsSector,
        Mutant::ReaderAltersPayload,
        Mutant::PolicyIgnored,
        Mutant::SeedRepeats,
        Mutant::PieceLost,
        Mutant::PieceTwice,
        Mutant::ResumeForgotten,
        Mutant::ProvisionedEarly,
        Mutant::SyncRetried,
        Mutant::StartsEmpty,
    ];
}
