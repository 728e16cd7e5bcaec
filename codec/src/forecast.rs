//! Values that can be reckoned: counters that count, and the record's own time.
//!
//! A forecast is a text that the next value is expected to be. [`Counting`] adds the last difference
//! to the last number at this path and kind of record; [`Clock`] writes the time stamp that both
//! ends know from the record's metadata the way this path wrote it before, with the same offset.

use alloc::vec;
use alloc::vec::Vec;

use crate::window::Window;

/// Longer values are not reckoned.
const LEN_MAX: usize = 40;
const DIGITS_MAX: usize = 18;

/// The expected text of a value, and how far it came true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    bytes: [u8; LEN_MAX],
    len: usize,
    at: usize,
    misses: u8,
    outcomes: u8,
}

impl Text {
    const NONE: Self = Self { bytes: [0; LEN_MAX], len: 0, at: 0, misses: 0, outcomes: 0 };

    /// The expected next byte.
    #[inline]
    pub(crate) fn byte(&self) -> Option<u8> {
        if self.at < self.len { self.bytes.get(self.at).copied() } else { None }
    }

    /// Its situation, as of a pointer (see `recall.rs`).
    #[inline]
    pub(crate) fn situation(&self) -> u32 {
        let place = if self.at < 3 { self.at as u32 } else { (self.at.ilog2() + 2).min(7) };
        u32::from(self.outcomes & 31) << 5 | u32::from(self.misses.min(3)) << 3 | place
    }

    #[inline]
    pub(crate) fn follow(&mut self, byte: u8) {
        if let Some(expected) = self.byte() {
            self.misses += u8::from(expected != byte && self.misses < 3);
            self.at += 1;
        }
    }

    fn is_told(&self) -> bool {
        self.len > 0
    }

    /// Newest outcome lowest, below a leading one.
    fn outcome(&self) -> u8 {
        let shifted = self.outcomes << 1 | u8::from(self.misses == 0);
        if shifted >= 32 { 16 | shifted & 15 } else { shifted }
    }
}

/// Copies a value from the history.
fn copy(window: &Window, begin: u32, len: u32) -> Option<Text> {
    if len as usize > LEN_MAX || !window.holds(begin) {
        return None;
    }
    let mut text = Text { len: len as usize, outcomes: 1, ..Text::NONE };
    for (i, byte) in text.bytes.iter_mut().take(len as usize).enumerate() {
        *byte = window.at(begin.wrapping_add(i as u32));
    }
    Some(text)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    check: u32,
    begin: u32,
    len: u32,
    value: i64,
    difference: i64,
    outcomes: u8,
}

/// Counters: last value plus last difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counting {
    counts: Vec<Count>,
    at: usize,
    context: u32,
    pub(crate) text: Text,
}

impl Counting {
    /// For about `2^bits` paths.
    pub(crate) fn new(bits: u32) -> Self {
        Self { counts: vec![Count::default(); 1 << bits], at: 0, context: 0, text: Text::NONE }
    }

    /// A value begins in a context of path and kind.
    pub(crate) fn begin(&mut self, context: u32, window: &Window) {
        self.at = context as usize % self.counts.len();
        self.context = context;
        self.text = Text::NONE;
        let count = self.counts[self.at];
        if count.check != context || count.difference == 0 {
            return;
        }
        let (Some(mut text), Some(next)) =
            (copy(window, count.begin, count.len), count.value.checked_add(count.difference))
        else {
            return;
        };
        let Some((from, to)) = last_number(&text) else { return };
        if write_number(text.bytes.get_mut(from..to).unwrap_or_default(), next) {
            text.outcomes = count.outcomes;
            self.text = text;
        }
    }

    /// The value has ended.
    pub(crate) fn store(&mut self, begin: u32, len: u32, window: &Window) {
        let count = &mut self.counts[self.at];
        let parsed = copy(window, begin, len).and_then(|text| {
            let (from, to) = last_number(&text)?;
            read_number(text.bytes.get(from..to)?)
        });
        let Some(value) = parsed else {
            count.check = 0;
            return;
        };
        if count.check == self.context {
            count.difference = value - count.value;
            if self.text.is_told() {
                count.outcomes = self.text.outcome();
            }
        } else {
            *count = Count { check: self.context, outcomes: 1, ..Count::default() };
        }
        (count.begin, count.len, count.value) = (begin, len, value);
    }

    pub(crate) fn reset(&mut self) {
        self.counts.fill(Count::default());
        (self.at, self.context, self.text) = (0, 0, Text::NONE);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.counts.len() * size_of::<Count>()
    }
}

/// Where the last run of digits stands.
fn last_number(text: &Text) -> Option<(usize, usize)> {
    let bytes = text.bytes.get(..text.len)?;
    let to = bytes.iter().rposition(u8::is_ascii_digit)? + 1;
    let from = bytes.iter().take(to).rposition(|b| !b.is_ascii_digit()).map_or(0, |at| at + 1);
    (to - from <= DIGITS_MAX).then_some((from, to))
}

fn read_number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0i64, |n, b| n.checked_mul(10)?.checked_add(i64::from(b.wrapping_sub(b'0') % 10)))
}

/// Writes a number over digits, if it has as many.
fn write_number(digits: &mut [u8], value: i64) -> bool {
    let Ok(mut rest) = u64::try_from(value) else { return false };
    for byte in digits.iter_mut().rev() {
        *byte = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    rest == 0
}

/// How a path writes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Seconds,
    Millis,
    /// `YYYY-MM-DDTHH:MM:SS`, a fraction or none, this many minutes east.
    Calendar {
        east_min: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    check: u32,
    begin: u32,
    len: u32,
    offset_ms: i64,
    form: Form,
    outcomes: u8,
}

impl Stamp {
    const NONE: Self = Self { check: 0, begin: 0, len: 0, offset_ms: 0, form: Form::Seconds, outcomes: 1 };
}

/// Further from the record's time a value is not about it.
const OFFSET_MAX_MS: i64 = 100 * 24 * 3_600_000;

/// The record's time as the payload writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clock {
    stamps: Vec<Stamp>,
    now_ms: Option<i64>,
    at: usize,
    context: u32,
    pub(crate) text: Text,
}

impl Clock {
    /// For about `2^bits` paths.
    pub(crate) fn new(bits: u32) -> Self {
        Self { stamps: vec![Stamp::NONE; 1 << bits], now_ms: None, at: 0, context: 0, text: Text::NONE }
    }

    /// A record begins, at a time that both ends know (or none).
    pub(crate) fn begin_record(&mut self, hlc_ms: Option<u64>) {
        self.now_ms = hlc_ms.and_then(|ms| i64::try_from(ms).ok()).filter(|ms| *ms < 1 << 48);
    }

    /// A value begins in a context of its path.
    pub(crate) fn begin(&mut self, context: u32, window: &Window) {
        self.text = Text::NONE;
        let Some(now) = self.now_ms else { return };
        self.at = context as usize % self.stamps.len();
        self.context = context;
        let stamp = self.stamps[self.at];
        if stamp.check != context {
            return;
        }
        let Some(mut text) = copy(window, stamp.begin, stamp.len) else { return };
        if write_time(&mut text, stamp.form, now + stamp.offset_ms) {
            text.outcomes = stamp.outcomes;
            self.text = text;
        }
    }

    /// The value has ended.
    pub(crate) fn store(&mut self, begin: u32, len: u32, window: &Window) {
        let Some(now) = self.now_ms else { return };
        let stamp = &mut self.stamps[self.at];
        let parsed = copy(window, begin, len).and_then(|text| read_time(text.bytes.get(..text.len)?));
        let Some((form, ms)) = parsed.filter(|(_, ms)| (ms - now).abs() < OFFSET_MAX_MS) else {
            return;
        };
        if stamp.check != self.context {
            *stamp = Stamp { check: self.context, ..Stamp::NONE };
        } else if self.text.is_told() {
            stamp.outcomes = self.text.outcome();
        }
        (stamp.begin, stamp.len, stamp.form, stamp.offset_ms) = (begin, len, form, ms - now);
    }

    pub(crate) fn reset(&mut self) {
        self.stamps.fill(Stamp::NONE);
        (self.now_ms, self.at, self.context, self.text) = (None, 0, 0, Text::NONE);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.stamps.len() * size_of::<Stamp>()
    }
}

/// Reads a value as a time: epoch seconds or milliseconds, or a calendar's.
fn read_time(value: &[u8]) -> Option<(Form, i64)> {
    if value.iter().all(u8::is_ascii_digit) {
        let n = read_number(value)?;
        return match value.len() {
            10 => Some((Form::Seconds, n * 1000)),
            13 => Some((Form::Millis, n)),
            _ => None,
        };
    }
    let field = |from: usize, len: usize| -> Option<i64> {
        let digits = value.get(from..from + len)?;
        digits.iter().all(u8::is_ascii_digit).then(|| read_number(digits))?
    };
    let is = |at: usize, byte: u8| value.get(at) == Some(&byte);
    if !(is(0, b'"') && is(5, b'-') && is(8, b'-') && is(14, b':') && is(17, b':')) {
        return None;
    }
    let days = days_of(field(1, 4)?, field(6, 2)?, field(9, 2)?);
    let mut ms = ((days * 24 + field(12, 2)?) * 60 + field(15, 2)?) * 60_000 + field(18, 2)? * 1000;
    let mut at = 20;
    if is(at, b'.') {
        ms += field(21, 3)?;
        at = 24;
    }
    let east_min = match value.get(at)? {
        sign @ (b'+' | b'-') => {
            let colon = usize::from(is(at + 3, b':'));
            let minutes = field(at + 1, 2)? * 60 + field(at + 3 + colon, 2)?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => 0,
    };
    Some((Form::Calendar { east_min }, ms - east_min * 60_000))
}

/// Writes a time over a text of that form.
fn write_time(text: &mut Text, form: Form, ms: i64) -> bool {
    let len = text.len;
    match form {
        Form::Seconds => write_number(text.bytes.get_mut(..len).unwrap_or_default(), ms.div_euclid(1000)),
        Form::Millis => write_number(text.bytes.get_mut(..len).unwrap_or_default(), ms),
        Form::Calendar { east_min } => {
            let local = ms + east_min * 60_000;
            let (days, in_day) = (local.div_euclid(86_400_000), local.rem_euclid(86_400_000));
            let (year, month, day) = date_of(days);
            let fields = [
                (1, 4, year),
                (6, 2, month),
                (9, 2, day),
                (12, 2, in_day / 3_600_000),
                (15, 2, in_day / 60_000 % 60),
                (18, 2, in_day / 1000 % 60),
            ];
            let fraction = (text.bytes.get(20) == Some(&b'.')).then_some((21, 3, in_day % 1000));
            fields
                .into_iter()
                .chain(fraction)
                .all(|(from, len, value)| write_number(text.bytes.get_mut(from..from + len).unwrap_or_default(), value))
        }
    }
}

/// Days since 1970 of a date of the Gregorian calendar.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a day since 1970.
fn date_of(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_inverse() {
        for days in (-100_000..100_000).step_by(17) {
            let (y, m, d) = date_of(days);
            assert_eq!(days_of(y, m, d), days);
        }
        assert_eq!(date_of(20_493), (2026, 2, 9));
    }

    fn text(value: &str) -> Text {
        let mut window = Window::new(13);
        value.bytes().for_each(|b| window.push(b));
        copy(&window, 0, value.len() as u32).expect("short")
    }

    #[test]
    fn times_are_read_and_written_in_the_form_of_the_path() {
        for (value, later) in [
            ("1771342530", "1771342592"),
            ("1771342530123", "1771342591123"),
            ("\"2026-02-28T23:59:40+06:00\"", "\"2026-03-01T00:00:41+06:00\""),
            ("\"2026-02-03T08:59:50.619Z\"", "\"2026-02-03T09:00:51.619Z\""),
            ("\"2026-02-03 08:59:50-0330\"", "\"2026-02-03 09:00:51-0330\""),
        ] {
            let (form, ms) = read_time(value.as_bytes()).expect("a time");
            let mut t = text(value);
            assert!(write_time(&mut t, form, ms + 61_000 + if form == Form::Seconds { 1000 } else { 0 }));
            assert_eq!(&t.bytes[..t.len], later.as_bytes());
        }
        for value in ["", "12", "\"2026\"", "\"a026-02-03T08:59:50.619Z\"", "\"2026-02-03T08:59:50"] {
            assert!(read_time(value.as_bytes()).is_none(), "{value}");
        }
    }

    #[test]
    fn the_last_number_of_a_value_counts() {
        for (value, from, to) in [("2990", 0, 4), ("\"L26-01386\"", 5, 10), ("3.14", 2, 4)] {
            assert_eq!(last_number(&text(value)), Some((from, to)));
        }
        let mut digits = *b"0099";
        assert!(write_number(&mut digits, 100) && &digits == b"0100");
        assert!(!write_number(&mut digits, 10_000) && !write_number(&mut digits, -1));
    }
}
