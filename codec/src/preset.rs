//! How much memory a model takes.

/// A size of all tables together. Both ends must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Preset {
    /// About 0.7 MB.
    Small,
    /// About 1.5 MB.
    Medium,
    /// About 3 MB.
    Large,
}

/// Binary logarithms of the tables' lengths.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) window: u32,
    pub(crate) matches: u32,
    pub(crate) recall: u32,
    pub(crate) texts: u32,
    pub(crate) links: u32,
    pub(crate) fields: u32,
    pub(crate) runs: u32,
    pub(crate) ask: u32,
    pub(crate) histories: u32,
}

impl Preset {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    pub(crate) fn sizes(self) -> Sizes {
        match self {
            Self::Small => {
                Sizes { window: 17, matches: 13, recall: 12, texts: 16, links: 9, fields: 8, runs: 14, ask: 11, histories: 13 }
            }
            Self::Medium => {
                Sizes { window: 18, matches: 14, recall: 13, texts: 17, links: 10, fields: 9, runs: 15, ask: 12, histories: 15 }
            }
            Self::Large => {
                Sizes { window: 19, matches: 15, recall: 13, texts: 18, links: 11, fields: 9, runs: 16, ask: 13, histories: 16 }
            }
        }
    }
}
