//! `ropeway sync --keep`: a clinic's daemon.

use ropeway_std::{KeepOptions, KeepState, Stop, SyncReport};
use serde::Serialize;
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::SyncArgs;
use super::output::{ErrorFields, message};
use super::{Outcome, Output, Result, passphrase, show};

/// The end of one session, for programs.
#[derive(Serialize)]
struct Ended<'a> {
    state: &'static str,
    #[serde(flatten)]
    report: &'a SyncReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'a>>,
}

/// Stays connected: returns after SIGTERM or SIGINT.
///
/// # Errors
/// Those of [`Replica::open`](ropeway_std::Replica::open) and [`Replica::keep`](ropeway_std::Replica::keep).
pub fn run(args: &SyncArgs, out: &mut Output) -> Result<Outcome> {
    let mut replica = show::open(&passphrase::data_dir(&args.data_dir), args.options())?;
    show::warn_of_damage(&replica, out);
    let stop = Stop::new()?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| ropeway_std::Error::io("signals", e))?;
    let handle = signals.handle();
    let stopper = stop.clone();
    std::thread::spawn(move || signals.forever().for_each(|_| stopper.stop()));
    // Whoever has closed our output may well want the events to be sent all the same.
    let mut shown = Ok(());
    let options = KeepOptions { early_data: args.early_data, ..KeepOptions::default() };
    let outcome = replica.keep(args.hub.as_str(), &options, &stop, |state| {
        if shown.is_ok() {
            shown = tell(state, args.hub.as_str(), out);
        }
    });
    handle.close();
    let total = outcome?;
    shown?;
    out.say(format_args!(
        "stopped after {}: {} sent, {} acknowledged, {} received; {} up, {} down",
        show::counted(total.sessions, "session"),
        show::counted(total.sent, "event"),
        total.acknowledged,
        total.received,
        show::size(total.wire_bytes_up),
        show::size(total.wire_bytes_down)
    ))?;
    let mut object = json!({ "state": "stopped" });
    if let (Value::Object(all), Ok(Value::Object(total))) = (&mut object, serde_json::to_value(&total)) {
        all.extend(total);
    }
    out.object(&object)?;
    Ok(Outcome::Done)
}

fn tell(state: &KeepState<'_>, address: &str, out: &mut Output) -> Result<()> {
    match state {
        KeepState::Calling => out.object(&json!({ "state": "calling", "address": address })),
        KeepState::Connected { hub, resumed, early } => {
            let how = match (resumed, early) {
                (_, true) => " (resumed, with early data)",
                (true, false) => " (resumed)",
                _ => "",
            };
            out.say(format_args!("connected with {hub}{how}"))?;
            out.object(&json!({ "state": "connected", "hub": hub, "tls_resumed": resumed, "tls_early_data": early }))
        }
        KeepState::CaughtUp(report) => out.object(&Ended { state: "level", report, error: None }),
        KeepState::Ended { report, error } => {
            let peer = if report.hub.is_empty() { address } else { &report.hub };
            let did =
                format!("{} acknowledged, {} received", show::counted(report.acknowledged, "event"), report.received);
            match error {
                Some(e) => out.say(format_args!("{e}; {did}"))?,
                None => out.say(format_args!("the session with {peer} is over; {did}"))?,
            }
            let text = error.map(message);
            let fields = error.zip(text.as_deref()).map(|(e, text)| ErrorFields::new(e.code, text));
            out.object(&Ended { state: "ended", report, error: fields })
        }
        KeepState::Waiting(pause) => {
            let ms = pause.as_millis() as u64;
            out.say(format_args!("next call in {:.1} s", pause.as_secs_f64()))?;
            out.object(&json!({ "state": "waiting", "pause_ms": ms }))
        }
    }
}
