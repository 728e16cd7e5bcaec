//! `ropeway serve`.

use ropeway_std::accept::all_but_kinds;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::ServeArgs;
use super::{Outcome, Output, Result, passphrase};
use crate::daemon::{Daemon, DaemonOptions};

/// Runs it: returns after SIGTERM or SIGINT, when everything in flight is durable.
///
/// # Errors
/// As [`Daemon::bind`] and [`Daemon::run`].
pub fn run(args: &ServeArgs, out: &mut Output) -> Result<Outcome> {
    let options = DaemonOptions {
        policy: args.policy,
        max_sessions: args.max_sessions as usize,
        scrub: args.scrub,
        model_states: args.model_states as usize,
        early_data: args.early_data,
        accept_bytes: args.max_event.map_or(0, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        ..DaemonOptions::new(args.bind)
    };
    let mut daemon = Daemon::bind(passphrase::data_dir(&args.data_dir), options)?;
    if !args.refuse_kind.is_empty() {
        daemon.accept_by(all_but_kinds(args.refuse_kind.as_slice()));
    }
    let stopper = daemon.stopper();
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| ropeway_std::Error::io("signals", e))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            stopper.stop();
        }
    });
    let address = daemon.local_addr();
    out.line(format_args!("listening on {address}"))?;
    out.object(&json!({ "listening": address.to_string() }))?;
    daemon.run()?;
    Ok(Outcome::Done)
}
