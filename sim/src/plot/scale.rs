//! Units of the axes, and as many points as a picture can show.

use crate::figures::thousands;

/// What a long number is counted in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    /// So many milliseconds, or bytes, are one.
    pub(super) of: f64,
}

/// What the time of a run is counted in.
pub(super) fn time_unit(end_ms: u64) -> Unit {
    let (name, of) = match end_ms {
        0..180_000 => ("s", 1e3),
        180_000..10_800_000 => ("min", 60e3),
        10_800_000..259_200_000 => ("h", 3600e3),
        _ => ("days", 86_400e3),
    };
    Unit { name, of }
}

/// What bytes per second are counted in.
pub(super) fn rate_unit(most: f64) -> Unit {
    match most {
        m if m < 20e3 => Unit { name: "B/s", of: 1.0 },
        m if m < 20e6 => Unit { name: "kB/s", of: 1e3 },
        _ => Unit { name: "MB/s", of: 1e6 },
    }
}

/// A number of an axis, without needless zeros.
pub(super) fn label(x: f64) -> String {
    let rounded = (x * 1000.0).round() / 1000.0;
    if rounded.fract() == 0.0 && rounded >= 0.0 { thousands(rounded as u64) } else { format!("{rounded}") }
}

/// The corners of a step line from `(0, 0)` to the end: of many points in one column of the picture
/// the last is kept. Points must be in the order of time.
pub(super) fn steps(points: impl Iterator<Item = (u64, u64)>, end_ms: u64, columns: u64) -> Vec<(u64, u64)> {
    let column = |ms: u64| u128::from(ms) * u128::from(columns) / u128::from(end_ms.max(1));
    let mut kept: Vec<(u64, u64)> = vec![(0, 0)];
    for (ms, n) in points {
        match kept.last_mut() {
            Some(last) if kept_column(last.0, ms, column) => *last = (last.0.max(ms), n),
            _ => kept.push((ms, n)),
        }
    }
    let mut corners: Vec<(u64, u64)> = Vec::with_capacity(kept.len() * 2);
    for (ms, n) in kept {
        if let Some(&(_, before)) = corners.last() {
            corners.push((ms, before));
        }
        corners.push((ms, n));
    }
    if let Some(&(_, n)) = corners.last() {
        corners.push((end_ms, n));
    }
    corners
}

fn kept_column(a: u64, b: u64, column: impl Fn(u64) -> u128) -> bool {
    a > 0 && column(a) == column(b)
}

/// Width of the bars of traffic in milliseconds: round, at most `most` of them, and at least `least`
/// wide.
pub(super) fn bin_ms(end_ms: u64, most: u64, least: u64) -> u64 {
    const ROUND: [u64; 20] = [
        100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_200_000,
        1_800_000, 3_600_000, 7_200_000, 14_400_000, 43_200_000, 86_400_000,
    ];
    let wanted = least.max(end_ms.div_ceil(most.max(1)));
    ROUND.into_iter().find(|r| *r >= wanted).unwrap_or(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_fit_the_length_of_a_run() {
        let names = [3_000, 600_000, 86_400_000, 40 * 86_400_000].map(|ms| time_unit(ms).name);
        assert_eq!(names, ["s", "min", "h", "days"]);
        assert_eq!([900.0, 50e3, 50e6].map(|r| rate_unit(r).name), ["B/s", "kB/s", "MB/s"]);
        assert_eq!([0.0, 0.5, 12_000.0].map(label), ["0", "0.5", "12,000"].map(String::from));
    }

    #[test]
    fn a_step_line_keeps_its_ends_and_no_more_than_a_picture_shows() {
        assert_eq!(steps([(5, 1), (7, 3)].into_iter(), 10, 100), [(0, 0), (5, 0), (5, 1), (7, 1), (7, 3), (10, 3)]);
        let many = steps((0..100_000).map(|n| (n, n)), 100_000, 50);
        assert!(many.len() < 110 && many.last() == Some(&(100_000, 99_999)));
        assert_eq!(steps(std::iter::empty(), 0, 50), [(0, 0), (0, 0)]);
    }

    #[test]
    fn bars_are_round_and_few() {
        assert_eq!((bin_ms(3_000, 300, 100), bin_ms(3_000, 300, 1_000), bin_ms(0, 300, 1)), (100, 1_000, 100));
        assert!(40 * 86_400_000 / bin_ms(40 * 86_400_000, 300, 100) <= 300);
    }
}
