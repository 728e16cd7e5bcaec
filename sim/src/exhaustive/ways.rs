//! Which of the unsynced sectors a crash keeps.

use std::collections::BTreeSet;

/// With more sectors than this, not all subsets are tried.
const ALL_SUBSETS: usize = 12;
/// So many at either end are then tried in all their subsets.
const AT_AN_END: usize = 6;

/// Subsets of `n` sectors, `true` for those that a crash keeps; and whether these are all subsets. If
/// there are too many: all subsets of the first six and of the last six, the others all kept or all
/// lost; all prefixes; all but one.
pub(super) fn ways(n: usize) -> (BTreeSet<Vec<bool>>, bool) {
    let bit = |bits: u32, i: usize| bits >> i & 1 == 1;
    if n <= ALL_SUBSETS {
        return ((0..1u32 << n).map(|bits| (0..n).map(|i| bit(bits, i)).collect()).collect(), true);
    }
    let mut out = BTreeSet::new();
    for bits in 0..1u32 << AT_AN_END {
        for others in [false, true] {
            out.insert((0..n).map(|i| if i < AT_AN_END { bit(bits, i) } else { others }).collect());
            let last = n - AT_AN_END;
            out.insert((0..n).map(|i| if i >= last { bit(bits, i - last) } else { others }).collect());
        }
    }
    for at in 0..=n {
        out.insert((0..n).map(|i| i < at).collect());
        out.insert((0..n).map(|i| i != at).collect());
    }
    (out, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_sectors_are_kept_in_every_way() {
        assert_eq!(ways(0), (BTreeSet::from([vec![]]), true));
        assert_eq!((ways(5).0.len(), ways(12).0.len()), (32, 4096));
    }

    #[test]
    fn many_sectors_are_kept_in_the_ways_that_matter_most() {
        let (some, whole) = ways(20);
        assert!(!whole && some.len() < 500);
        let only = |lost: &[usize]| -> Vec<bool> { (0..20).map(|i| !lost.contains(&i)).collect() };
        assert!([&[][..], &[0], &[10], &[19], &[0, 2, 5], &[14, 19]].iter().all(|lost| some.contains(&only(lost))));
        assert!((0..=20).all(|n| some.contains(&(0..20).map(|i| i < n).collect::<Vec<_>>())));
    }
}
