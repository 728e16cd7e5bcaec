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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) window: u32,
    pub(crate) matches: u32,
    pub(crate) recall: u32,
    pub(crate) texts: u32,
    pub(crate) links: u32,
    pub(crate) fields: u32,
    pub(crate) runs: u32,
    pub(crate) ask: u32,
    pub(crate) maps: u32,
    pub(crate) histories: u32,
}

impl Preset {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    pub(crate) fn sizes(self) -> Sizes {
        // window, matches, recall, texts, links, fields, runs, ask, maps, histories
        let [window, matches, recall, texts, links, fields, runs, ask, maps, histories] = match self {
            Self::Small => [15, 13, 11, 16, 9, 7, 14, 11, 8, 13],
            Self::Medium => [16, 14, 12, 17, 10, 8, 15, 12, 9, 15],
            Self::Large => [16, 15, 14, 19, 11, 9, 17, 13, 10, 16],
        };
        Sizes { window, matches, recall, texts, links, fields, runs, ask, maps, histories }
    }
}
