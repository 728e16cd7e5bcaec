//! The log of a running `serve`, on standard error. Other verbs print what they have to say.

use env_logger::Env;

use super::args::GlobalArgs;

/// Starts it. `RUST_LOG` decides what is shown; without it `-v` does, and `--quiet` leaves warnings.
pub fn start(global: &GlobalArgs) {
    // A second start in one process (tests) keeps the first.
    let _ = env_logger::Builder::from_env(Env::default().default_filter_or(level(global))).try_init();
}

fn level(global: &GlobalArgs) -> &'static str {
    match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "debug",
        (false, _) => "trace",
    }
}
