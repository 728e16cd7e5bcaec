//! What a person sees meanwhile.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on a terminal, nothing elsewhere.
pub(crate) fn bar(what: &str, len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    if let Ok(style) = ProgressStyle::with_template("{msg:30} {bar:30} {percent:>3} % {eta}") {
        bar.set_style(style);
    }
    bar.set_message(what.to_owned());
    bar
}
