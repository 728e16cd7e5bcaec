//! Bit histories: what a context has seen of a bit, in one byte.
//!
//! A state stands for how many zeros and ones were seen, and which came last while the counts are
//! small. When a bit contradicts what was there before, the older count is cut: recent news weighs
//! more. What a state *means* is not fixed; an adaptive table per context learns how often a one
//! follows it. The 255 states and their successors are generated, as in Matt Mahoney's ZPAQ.

/// A state's successors and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// After a zero, after a one.
    pub(crate) next: [u8; 2],
    /// Zeros and ones seen.
    pub(crate) seen: [u8; 2],
}

/// All of them; state 0 has seen nothing.
pub(crate) static STATES: [State; 256] = make();

/// Counts of n0 zeros are kept up to these when n1 ones were seen (or the reverse).
const BOUND: [i32; 6] = [20, 48, 15, 8, 6, 5];
const N: usize = 50;

const fn variants(n0: i32, n1: i32) -> usize {
    let (most, least) = if n0 < n1 { (n1, n0) } else { (n0, n1) };
    if least < 0 || least >= 6 || most > BOUND[least as usize] {
        0
    } else if least > 0 && most + least <= 17 {
        2
    } else {
        1
    }
}

const fn discount(n: i32) -> i32 {
    (n >= 1) as i32
        + (n >= 2) as i32
        + (n >= 3) as i32
        + (n >= 4) as i32
        + (n >= 5) as i32
        + (n >= 7) as i32
        + (n >= 8) as i32
}

const fn step(n0: i32, n1: i32, one: bool) -> (i32, i32) {
    let swapped = n0 < n1;
    let (n0, n1, one) = if swapped { (n1, n0, !one) } else { (n0, n1, one) };
    let (mut a, mut b) = if one { (discount(n0), n1 + 1) } else { (n0 + 1, discount(n1)) };
    while variants(a, b) == 0 {
        if b < 2 {
            a -= 1;
        } else {
            a = (a * (b - 1) + b / 2) / b;
            b -= 1;
        }
    }
    if swapped { (b, a) } else { (a, b) }
}

const fn make() -> [State; 256] {
    let mut numbers = [[[0u8; 2]; N]; N];
    let (mut state, mut sum) = (0usize, 0usize);
    while sum < N {
        let mut n1 = 0;
        while n1 <= sum {
            let n0 = sum - n1;
            let count = variants(n0 as i32, n1 as i32);
            if count > 0 {
                numbers[n0][n1] = [state as u8, (state + count - 1) as u8];
                state += count;
            }
            n1 += 1;
        }
        sum += 1;
    }
    let mut states = [State { next: [0; 2], seen: [0; 2] }; 256];
    let mut n0 = 0;
    while n0 < N {
        let mut n1 = 0;
        while n1 < N {
            let mut last = 0;
            while last < variants(n0 as i32, n1 as i32) {
                let (a, b) = step(n0 as i32, n1 as i32, false);
                let (c, d) = step(n0 as i32, n1 as i32, true);
                states[numbers[n0][n1][last] as usize] = State {
                    next: [numbers[a as usize][b as usize][0], numbers[c as usize][d as usize][1]],
                    seen: [n0 as u8, n1 as u8],
                };
                last += 1;
            }
            n1 += 1;
        }
        n0 += 1;
    }
    states
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_leads_to_one_that_has_seen_the_bit() {
        for s in STATES.iter().take(255) {
            for bit in 0..2 {
                let t = STATES[s.next[bit] as usize];
                assert!(t.seen[bit] >= 1 && t.seen[bit] <= s.seen[bit] + 1, "{s:?} {t:?}");
                assert!(t.seen[1 - bit] <= s.seen[1 - bit], "{s:?} {t:?}");
            }
        }
        assert_eq!(STATES[0].seen, [0, 0]);
    }
}
