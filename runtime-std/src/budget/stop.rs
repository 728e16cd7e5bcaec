//! Why a sync may not go on, and when one may.

use ropeway_core::code::Code;

use super::SESSION_MIN_BYTES;
use super::days::DAY_S;
use super::meter::Inner;

/// Why a sync may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// What this sync may use is used.
    Session,
    /// What the day may use is used.
    Day,
    /// It is not the hour.
    Window,
    /// The next event may need so many bytes, which is more than what is left.
    Event(u64),
}

impl Stop {
    pub(super) fn code(self) -> Code {
        if self == Stop::Window { Code::Window } else { Code::Budget }
    }
}

impl Inner {
    /// Why it may not go on, and when it may.
    pub(super) fn sentence(&self, stop: Stop) -> String {
        let now = (self.clock)();
        let day = |what: String| {
            let (left_s, behind) = self.account.day_left_s(&now);
            let left = span(left_s);
            if behind {
                format!("{what}; the clock was set back, so the next day begins in at most {left} of running")
            } else {
                format!("{what}; the next day begins in {left}, at 00:00 UTC")
            }
        };
        match stop {
            Stop::Window => {
                let wait = u64::from(self.budget.windows.opens_in_min(now.wall_s));
                format!("outside of the window {}; the next opens in {}", self.budget.windows, span(wait * 60))
            }
            Stop::Session => {
                let all = self.budget.session_bytes.unwrap_or_default();
                format!("the {all} bytes of this sync are used; the next one goes on where it was acknowledged")
            }
            Stop::Day => {
                let all = self.budget.day_bytes.unwrap_or_default();
                let used = self.account.used_today().saturating_sub(self.account.reserved());
                day(format!("{used} of the {all} bytes of this day are used"))
            }
            Stop::Event(bytes) if self.day_left() < self.session_left() => {
                let (left, all) = (self.day_left(), self.budget.day_bytes.unwrap_or_default());
                match bytes + SESSION_MIN_BYTES > all {
                    true => format!("the next event may need {bytes} bytes, too many for {all} a day; allow more"),
                    false => day(format!("the next event may need {bytes} bytes, {left} of this day are left")),
                }
            }
            Stop::Event(bytes) => {
                let left = self.session_left();
                format!("the next event may need {bytes} bytes, {left} of this sync are left; allow it more")
            }
        }
    }
}

/// `5 h 12 min`.
fn span(s: u64) -> String {
    let min = s.min(2 * DAY_S).div_ceil(60);
    if min < 60 { format!("{min} min") } else { format!("{} h {} min", min / 60, min % 60) }
}
