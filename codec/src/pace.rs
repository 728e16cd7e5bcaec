//! How much care text gets, by the share of its bytes that no candidate foretold.
//!
//! Nearly all bytes of records are foretold, so it does not matter what the others cost. In text
//! that is new, nearly all are others: there the dear way, and even to ask for candidates, does not
//! pay. Both ends count the same bytes, so nothing is said about it. That the share has to fall well
//! below where it rose to keeps a stream from going back and forth. JSON is neither counted nor hurried.

/// One, as a share.
const ONE: i32 = 1 << 24;
/// The share fades over `2^FADE` bytes.
const FADE: u32 = 11;
/// From this share on, and down to this, bytes are coded in the short way.
const SHORT: (i32, i32) = (ONE / 100 * 29, ONE / 100 * 25);
/// The same for no more asking for candidates.
const PROSE: (i32, i32) = (ONE / 100 * 60, ONE / 100 * 30);

/// A way to code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// All predictors take part.
    Careful,
    /// What is not the best candidate goes the short way.
    Short,
    /// Everything goes the short way, and nobody is asked for candidates.
    Prose,
}

/// The share of bytes that were news lately. It begins below none: the first kilobytes are all news, whatever comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    share: i32,
    pace: Pace,
}

impl News {
    pub(crate) const fn new() -> Self {
        Self { share: -ONE, pace: Pace::Careful }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    /// Whether the last byte was news.
    #[inline]
    pub(crate) fn note(&mut self, is_news: bool) {
        self.share += ((if is_news { ONE } else { 0 }) - self.share) >> FADE;
        self.pace = match self.pace {
            Pace::Careful if self.share >= SHORT.0 => Pace::Short,
            Pace::Short if self.share >= PROSE.0 => Pace::Prose,
            Pace::Short if self.share < SHORT.1 => Pace::Careful,
            Pace::Prose if self.share < PROSE.1 => Pace::Short,
            same => same,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(news: &mut News, bytes: u32, per_cent: u32) -> Pace {
        (0..bytes).for_each(|i| news.note(i * 37 % 100 < per_cent));
        news.pace()
    }

    #[test]
    fn records_are_coded_with_care_and_text_is_not() {
        let mut news = News::new();
        assert_eq!(after(&mut news, 20_000, 24), Pace::Careful);
        assert_eq!(after(&mut news, 20_000, 33), Pace::Short);
        assert_eq!(after(&mut news, 20_000, 90), Pace::Prose);
    }

    #[test]
    fn a_pace_lasts_until_the_share_is_well_below_where_it_began() {
        let mut news = News::new();
        after(&mut news, 20_000, 100);
        assert_eq!(after(&mut news, 20_000, 34), Pace::Prose);
        assert_eq!(after(&mut news, 20_000, 27), Pace::Short);
        assert_eq!(after(&mut news, 20_000, 20), Pace::Careful);
        assert_eq!(after(&mut news, 20_000, 27), Pace::Careful);
    }

    #[test]
    fn the_first_kilobytes_may_all_be_news() {
        assert_eq!(after(&mut News::new(), 1024, 100), Pace::Careful);
    }
}
