//! Numbers as people read them.

/// A number with its thousands parted: `12,345`.
#[must_use]
pub(crate) fn thousands(n: u64) -> String {
    indicatif::HumanCount(n).to_string()
}

/// A number and its noun: `1 cut`, `2,000 cuts`.
#[must_use]
pub(crate) fn many(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", thousands(n), if n == 1 { "" } else { "s" })
}

/// A time in the two units that matter: `0.4 s`, `3 min 20 s`, `2 days 4 h`.
#[must_use]
pub(crate) fn span(ms: u64) -> String {
    let (s, tenths) = (ms / 1000, ms % 1000 / 100);
    let (n, unit, more, less) = match s {
        0..60 if tenths > 0 => return format!("{s}.{tenths} s"),
        0..60 => (s, "s", 0, ""),
        60..3600 => (s / 60, "min", s % 60, "s"),
        3600..172_800 => (s / 3600, "h", s % 3600 / 60, "min"),
        _ => (s / 86_400, "days", s % 86_400 / 3600, "h"),
    };
    if more > 0 { format!("{n} {unit} {more} {less}") } else { format!("{n} {unit}") }
}

/// Parts of a whole in percent; nothing of nothing is 0.
#[must_use]
pub(crate) fn percent(part: f64, whole: f64) -> String {
    let p = if whole > 0.0 { part * 100.0 / whole } else { 0.0 };
    match p {
        p if p > 0.0 && p < 0.05 => "less than 0.1 %".into(),
        p if p > 0.0 && p < 9.95 => format!("{p:.1} %"),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_parted_and_times_have_units() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(String::from), [0, 999, 1000, 1_234_567].map(thousands));
        assert_eq!((many(1, "cut"), many(0, "cut")), ("1 cut".into(), "0 cuts".into()));
        let times = [450, 15_000, 200_000, 7_200_000, 187_200_000].map(span);
        assert_eq!(times, ["0.4 s", "15 s", "3 min 20 s", "2 h", "2 days 4 h"].map(String::from));
        assert_eq!(
            (percent(1.0, 3.0), percent(1.0, 0.0), percent(1.0, 40.0)),
            ("33 %".into(), "0 %".into(), "2.5 %".into())
        );
    }
}
