//! Points in time on the command line.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use ropeway_core::code::Code;

use super::value::{BadValue, Value};

/// A time, in milliseconds since 1970.
pub(super) const TIME: Value<u64> = Value::of(|text| {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    parse(text, now)
});

/// An age, in milliseconds.
pub(super) const AGE: Value<u64> = Value::of(|text| {
    age(text).ok_or_else(|| BadValue::new(Code::BadArgument, "it is no age; write a number and a unit: 6h, 90d, 26w"))
});

fn parse(text: &str, now_ms: u64) -> Result<u64, BadValue> {
    if let Some(age_ms) = age(text) {
        return Ok(now_ms.saturating_sub(age_ms));
    }
    let stamp = text.parse::<Timestamp>().ok().or_else(|| {
        let day = text.parse::<Date>().ok().filter(|_| text.len() == 10)?;
        day.to_zoned(TimeZone::UTC).ok().map(|z| z.timestamp())
    });
    let ms = stamp.and_then(|t| u64::try_from(t.as_millisecond()).ok());
    ms.ok_or_else(|| {
        let what = "it is no time; write 2026-03-01T08:00:00Z, 2026-03-01 (UTC), or an age: 90s, 30m, 6h, 2d, 1w";
        BadValue::new(Code::BadArgument, what)
    })
}

/// `2d`: a number and a unit.
fn age(text: &str) -> Option<u64> {
    let unit = text.chars().next_back()?;
    let ms: u64 = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        'w' => 604_800_000,
        _ => return None,
    };
    let digits = text.strip_suffix(unit)?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(ms)
}

/// Milliseconds since 1970 as `2026-03-01T08:00:00.000Z`.
pub(super) fn utc(ms: u64) -> String {
    let stamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    stamp.map_or_else(|| format!("{ms} ms"), |t| format!("{t:.3}"))
}

/// The day (UTC) of a second since 1970: `2036-11-18`.
pub(super) fn day(second: u64) -> String {
    let stamp = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok());
    stamp.map_or_else(|| format!("{second} s"), |t| t.strftime("%Y-%m-%d").to_string())
}

/// A time for people, to the minute: `2026-03-01 08:00 UTC`; `unknown` before 2000, which a clock shows
/// that was never set.
pub(super) fn minute(seconds: u64) -> String {
    let stamp = i64::try_from(seconds).ok().filter(|s| *s >= 946_684_800);
    let stamp = stamp.and_then(|s| Timestamp::from_second(s).ok());
    stamp.map_or_else(|| "unknown".to_owned(), |t| t.strftime("%Y-%m-%d %H:%M UTC").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_or_ages() {
        let now = 1_800_000_000_000;
        let rows = [
            ("90s", now - 90_000),
            ("30m", now - 1_800_000),
            ("6h", now - 21_600_000),
            ("2d", now - 172_800_000),
            ("1w", now - 604_800_000),
            ("0s", now),
            ("99999999999d", 0),
            ("1970-01-02", 86_400_000),
            ("2026-03-01T08:00:00Z", 1_772_352_000_000),
            ("2026-03-01T14:00:00.5+06:00", 1_772_352_000_500),
        ];
        for (text, ms) in rows {
            assert_eq!(parse(text, now), Ok(ms), "{text}");
        }
        for bad in ["", "d", "-2d", "2", "2 d", "2y", "yesterday", "2026-13-01", "2026-03-01T08:00:00", "1969-01-01"] {
            assert!(parse(bad, now).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_stamp_is_shown_in_utc_and_one_beyond_all_calendars_as_a_number() {
        assert_eq!(utc(1_772_352_000_500), "2026-03-01T08:00:00.500Z");
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        let days = [0, 951_782_400, 1_767_225_599, 253_402_000_000, u64::MAX].map(day);
        assert_eq!(days, ["1970-01-01", "2000-02-29", "2025-12-31", "9999-12-28", &format!("{} s", u64::MAX)]);
        let minutes = [0, 951_782_400, 1_709_210_096, u64::MAX].map(minute);
        assert_eq!(minutes, ["unknown", "2000-02-29 00:00 UTC", "2024-02-29 12:34 UTC", "unknown"]);
        assert_eq!(utc(u64::MAX), format!("{} ms", u64::MAX));
    }
}
