//! Hours of the day in which a sync may run.

use std::fmt;
use std::str::FromStr;

use ropeway_core::code::Code;

use crate::error::{Error, Result};

const DAY_MIN: u16 = 24 * 60;
/// Windows at most.
const WINDOWS_MAX: usize = 8;

/// A part of each day, in UTC: from its first minute up to, not including, its last. It may go over
/// midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Minutes since midnight.
    from_min: u16,
    to_min: u16,
}

impl Window {
    /// Whether it is open in this minute of the day.
    fn holds(self, minute: u16) -> bool {
        if self.from_min < self.to_min {
            (self.from_min..self.to_min).contains(&minute)
        } else {
            minute >= self.from_min || minute < self.to_min
        }
    }
}

impl FromStr for Window {
    type Err = Error;

    /// `22:00-05:30`.
    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::new(Code::BadArgument, format!("{text:?} is no window; write HH:MM-HH:MM, as 22:00-05:30"));
        let minute = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let two = |s: &str| s.parse::<u16>().ok().filter(|_| s.len() == 2 && s.bytes().all(|b| b.is_ascii_digit()));
            let (h, m) = (two(hours)?, two(minutes)?);
            // 24:00 is the end of a day.
            (h < 24 && m < 60 || h == 24 && m == 0).then_some(h * 60 + m)
        };
        let (from, to) = text.split_once('-').ok_or_else(bad)?;
        let (from_min, to_min) = minute(from).zip(minute(to)).ok_or_else(bad)?;
        if from_min == DAY_MIN || from_min == to_min {
            return Err(bad());
        }
        Ok(Self { from_min, to_min })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = (self.from_min, self.to_min);
        write!(f, "{:02}:{:02}-{:02}:{:02}", a / 60, a % 60, b / 60, b % 60)
    }
}

/// Up to eight windows. Without any, every minute is as good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    list: [Option<Window>; WINDOWS_MAX],
}

impl Windows {
    /// These windows.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there are more than eight.
    pub fn new(windows: &[Window]) -> Result<Self> {
        if windows.len() > WINDOWS_MAX {
            return Err(Error::new(Code::BadArgument, format!("more than {WINDOWS_MAX} windows")));
        }
        let mut list = [None; WINDOWS_MAX];
        list.iter_mut().zip(windows).for_each(|(slot, w)| *slot = Some(*w));
        Ok(Self { list })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list[0].is_none()
    }

    /// Minutes until one is open; 0 if one is, or if there is none.
    #[must_use]
    pub fn opens_in_min(&self, wall_s: u64) -> u16 {
        let now = (wall_s / 60 % u64::from(DAY_MIN)) as u16;
        let open = |minute: u16| self.list.iter().flatten().any(|w| w.holds(minute % DAY_MIN));
        if self.is_empty() {
            return 0;
        }
        (0..DAY_MIN).find(|&wait| open(now + wait)).unwrap_or(0)
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, w) in self.list.iter().flatten().enumerate() {
            write!(f, "{}{w}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(texts: &[&str]) -> Windows {
        let list: Vec<Window> = texts.iter().map(|t| t.parse().unwrap()).collect();
        Windows::new(&list).unwrap()
    }

    #[test]
    fn a_window_is_two_times_of_the_day() {
        for good in ["00:00-24:00", "22:00-05:30", "09:05-09:06"] {
            assert_eq!(good.parse::<Window>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "22:00",
            "22-05",
            "22:00-22:00",
            "24:00-01:00",
            "22:60-23:00",
            "25:00-26:00",
            "+2:00-03:00",
            "2:00-3:00",
        ] {
            assert_eq!(bad.parse::<Window>().unwrap_err().code, Code::BadArgument, "{bad}");
        }
    }

    #[test]
    fn a_window_over_midnight_is_open_on_both_sides_of_it_and_the_next_one_is_known() {
        let at = |h: u64, m: u64| 20_000 * 86_400 + h * 3600 + m * 60 + 59;
        let night = windows(&["22:00-05:30"]);
        for (h, m, wait) in [(22, 0, 0), (23, 59, 0), (0, 0, 0), (5, 29, 0), (5, 30, 990), (21, 59, 1)] {
            assert_eq!(night.opens_in_min(at(h, m)), wait, "{h}:{m}");
        }
        let two = windows(&["12:00-13:00", "22:00-24:00"]);
        for (h, m, wait) in [(12, 30, 0), (13, 0, 540), (23, 59, 0), (0, 0, 720)] {
            assert_eq!(two.opens_in_min(at(h, m)), wait, "{h}:{m}");
        }
        assert_eq!(two.to_string(), "12:00-13:00, 22:00-24:00");
        assert_eq!(Windows::default().opens_in_min(at(3, 0)), 0);
        assert!(Windows::new(&["01:00-02:00".parse().unwrap(); 9]).is_err());
    }
}
