//! Live progress of a demo: a bar per clinic on a terminal, a line per milestone elsewhere.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::report::grouped;

/// How progress is shown. It goes to standard error, never to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// Bars that move.
    Bars,
    /// One line for each change of state and each quarter of the work.
    Lines,
    /// Nothing.
    Nothing,
}

impl Show {
    /// Nothing with `--json`, bars on a terminal, lines otherwise.
    #[must_use]
    pub fn choose(json: bool) -> Show {
        match (json, io::stderr().is_terminal()) {
            (true, _) => Show::Nothing,
            (false, true) => Show::Bars,
            (false, false) => Show::Lines,
        }
    }
}

/// What a clinic does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has no connection yet.
    Connecting,
    /// Events go up.
    Sending,
    /// Its link broke.
    LinkCut,
    /// It goes on after this event.
    Resuming(u64),
    /// The hub has acknowledged everything.
    Done,
    /// It gave up.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Connecting => f.write_str("connecting"),
            State::Sending => f.write_str("sending"),
            State::LinkCut => f.write_str("LINK CUT"),
            State::Resuming(at) => write!(f, "resuming at {at}"),
            State::Done => f.write_str("done"),
            State::Failed => f.write_str("FAILED"),
        }
    }
}

type Sink = Arc<Mutex<dyn Write + Send>>;

enum Output {
    Bars(MultiProgress),
    Lines(Sink),
    Nothing,
}

/// The display of all clinics.
pub struct Progress(Output);

impl Progress {
    /// A display on standard error.
    #[must_use]
    pub fn new(show: Show) -> Progress {
        Progress(match show {
            Show::Bars => Output::Bars(MultiProgress::with_draw_target(ProgressDrawTarget::stderr())),
            Show::Lines => Output::Lines(Arc::new(Mutex::new(io::stderr()))),
            Show::Nothing => Output::Nothing,
        })
    }

    /// Lines into a writer of the caller's.
    #[must_use]
    pub fn lines_to(writer: impl Write + Send + 'static) -> Progress {
        Progress(Output::Lines(Arc::new(Mutex::new(writer))))
    }

    /// Adds a clinic that has `total` events to deliver. Its handle may move to another thread.
    #[must_use]
    pub fn clinic(&self, name: &str, total: u64) -> ClinicProgress {
        let shown = match &self.0 {
            Output::Bars(bars) => {
                let bar = bars.add(ProgressBar::new(total).with_style(style()).with_prefix(name.to_owned()));
                // Draws at once: all clinics shall be seen before the first acknowledgement.
                bar.tick();
                Shown::Bar(bar)
            }
            Output::Lines(sink) => Shown::Lines(Arc::clone(sink)),
            Output::Nothing => Shown::Nothing,
        };
        ClinicProgress { shown, name: name.to_owned(), total, acknowledged: 0, bytes_up: 0, state: State::Connecting }
    }
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:14!} [{bar:24}] {pos:>6}/{len:<6} {msg}")
        .map(|style| style.progress_chars("=> "))
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

enum Shown {
    Bar(ProgressBar),
    Lines(Sink),
    Nothing,
}

/// One clinic's part of the display. Whoever drives the clinic calls [`ClinicProgress::update`].
pub struct ClinicProgress {
    shown: Shown,
    name: String,
    total: u64,
    acknowledged: u64,
    bytes_up: u64,
    state: State,
}

impl ClinicProgress {
    /// Shows a clinic's state, its acknowledged events, and the bytes that left its modem.
    pub fn update(&mut self, state: State, acknowledged: u64, bytes_up: u64) {
        let milestone = state != self.state || self.quarter(acknowledged) > self.quarter(self.acknowledged);
        (self.state, self.acknowledged, self.bytes_up) = (state, acknowledged, bytes_up);
        match &self.shown {
            Shown::Bar(bar) => {
                bar.set_message(format!("{:>9} B  {state}", grouped(bytes_up)));
                bar.set_position(acknowledged);
                if matches!(state, State::Done | State::Failed) {
                    bar.abandon();
                }
            }
            Shown::Lines(sink) if milestone => {
                let (name, total) = (&self.name, self.total);
                let mut sink = sink.lock().unwrap_or_else(PoisonError::into_inner);
                // Progress is a courtesy: a closed standard error must not stop the work.
                let _ = writeln!(sink, "{name}: {state}, {acknowledged} of {total} acknowledged, {bytes_up} bytes up");
            }
            Shown::Lines(_) | Shown::Nothing => {}
        }
    }

    fn quarter(&self, acknowledged: u64) -> u64 {
        acknowledged.saturating_mul(4).checked_div(self.total).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_tell_the_milestones_and_nothing_between() {
        let page = Page::default();
        let mut clinic = Progress::lines_to(page.clone()).clinic("rongtse", 1_000);
        for acknowledged in [0, 10, 240, 260, 300, 511] {
            clinic.update(State::Sending, acknowledged, acknowledged * 70);
        }
        clinic.update(State::LinkCut, 511, 36_000);
        clinic.update(State::Connecting, 511, 36_000);
        clinic.update(State::Resuming(512), 511, 36_100);
        clinic.update(State::Done, 1_000, 70_500);
        let expected = "\
rongtse: sending, 0 of 1000 acknowledged, 0 bytes up
rongtse: sending, 260 of 1000 acknowledged, 18200 bytes up
rongtse: sending, 511 of 1000 acknowledged, 35770 bytes up
rongtse: LINK CUT, 511 of 1000 acknowledged, 36000 bytes up
rongtse: connecting, 511 of 1000 acknowledged, 36000 bytes up
rongtse: resuming at 512, 511 of 1000 acknowledged, 36100 bytes up
rongtse: done, 1000 of 1000 acknowledged, 70500 bytes up
";
        assert_eq!(String::from_utf8(page.0.lock().unwrap().clone()).unwrap(), expected);
    }

    #[test]
    fn json_silences_progress() {
        assert_eq!(Show::choose(true), Show::Nothing);
        let mut clinic = Progress::new(Show::Nothing).clinic("rongtse", 0);
        clinic.update(State::Done, 0, 0);
    }

    #[test]
    fn the_bar_template_is_valid() {
        assert!(ProgressStyle::with_template("{prefix:14!} [{bar:24}] {pos:>6}/{len:<6} {msg}").is_ok());
        let bars = MultiProgress::with_draw_target(ProgressDrawTarget::hidden());
        let mut clinic = Progress(Output::Bars(bars)).clinic("rongtse", 10);
        clinic.update(State::Sending, 5, 700);
        clinic.update(State::Done, 10, 1_400);
        assert!(matches!(&clinic.shown, Shown::Bar(bar) if bar.is_finished() && bar.message() == "    1,400 B  done"));
    }
}
