//! What the program logs, kept so that tests can look for a code.

use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
static INSTALL: Once = Once::new();

struct Keep;

impl log::Log for Keep {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.target().starts_with("ropeway") {
            LINES.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Begins to keep lines. May be called often.
pub fn install() {
    INSTALL.call_once(|| {
        let _ = log::set_boxed_logger(Box::new(Keep));
        log::set_max_level(log::LevelFilter::Info);
    });
}

/// The lines so far that hold `part`, for example a peer's address.
#[must_use]
pub fn lines_with(part: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    lines.iter().filter(|l| l.contains(part)).cloned().collect()
}

/// Waits up to five seconds for a line that holds both.
///
/// # Panics
/// If there is none.
pub fn expect(part: &str, code: &str) {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if lines_with(part).iter().any(|l| l.contains(code)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("no line with {code} about {part}: {:?}", lines_with(part));
}
