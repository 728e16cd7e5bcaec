//! `ropeway sync`.

use ropeway_core::code::Code;
use ropeway_std::{Replica, SyncOptions, SyncReport};
use serde::Serialize;

use super::args::SyncArgs;
use super::error::Exit;
use super::output::{ErrorFields, message};
use super::{CliError, Outcome, Output, Result, cmd_forecast, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Synced<'a> {
    #[serde(flatten)]
    report: &'a SyncReport,
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'a>>,
}

/// Exchanges events with a hub.
///
/// # Errors
/// Those of [`Replica::open`] and [`Replica::sync`]; with `--json` those of the latter are in the
/// result instead.
pub fn run(args: &SyncArgs, out: &mut Output) -> Result<Outcome> {
    let budget = args.budget.budget()?;
    let dir = passphrase::data_dir(&args.data_dir);
    if args.dry_run {
        return cmd_forecast::run(&dir, &budget, out);
    }
    let mut replica = show::open(&dir, budget.options(args.options()))?;
    show::warn_of_damage(&replica, out);
    let waiting = waiting(&replica);
    let deadline_ms = args.timeout_s.map(|s| s.saturating_mul(1000));
    let options = SyncOptions { deadline_ms, budget, ..SyncOptions::default() };
    let bar = show::bar(out, Some(waiting), "syncing [{bar:32}] {pos}/{len} acknowledged  {msg}");
    bar.tick();
    let outcome = replica.sync(args.hub.as_str(), &options, |r| {
        bar.set_position(r.acknowledged.min(waiting));
        let left = show::time_left(r.acknowledged, waiting, r.seconds);
        bar.set_message(format!("{} up, {} received{left}", show::size(r.wire_bytes_up), r.received));
    });
    bar.finish_and_clear();
    replica.maintain(show::MAINTAIN_LIMIT);
    match outcome {
        Ok(report) => {
            out.say(format_args!("synced with {}: {}", report.hub, numbers(&report)))?;
            if report.sample_differs {
                let code = Code::SampleDiffers;
                out.say(format_args!("  {code} {} {}", code.says(), code.hint()))?;
            }
            out.object(&Synced { report: &report, complete: true, error: None })?;
            Ok(Outcome::Done)
        }
        Err(e) => {
            let (text, code, report) = (message(&e.error), e.error.code, &*e.report);
            let peer = if report.hub.is_empty() { args.hub.as_str() } else { &report.hub };
            out.say(format_args!("sync with {peer} is incomplete: {}", numbers(report)))?;
            out.object(&Synced { report, complete: false, error: Some(ErrorFields::new(code, &text)) })?;
            let error = CliError::Fault(e.error);
            match error.exit() {
                _ if !out.json() => Err(error),
                Exit::Incomplete => Ok(Outcome::Incomplete),
                _ => Ok(Outcome::Failed),
            }
        }
    }
}

/// Events of this node that no hub has acknowledged yet.
fn waiting(replica: &Replica) -> u64 {
    replica.frontier().filter(|e| e.own).map(|e| e.top.saturating_sub(e.acked)).sum()
}

fn numbers(r: &SyncReport) -> String {
    let withheld = match r.withheld {
        0 => String::new(),
        n => format!(", {n} not taken by the hub"),
    };
    let placed = match r.placed {
        0 => String::new(),
        n => format!(", {n} not sent by the hub"),
    };
    format!(
        "{} sent, {} acknowledged, {} received{withheld}{placed}; {} up, {} down, {:.1} s",
        show::counted(r.sent, "event"),
        r.acknowledged,
        r.received,
        show::size(r.wire_bytes_up),
        show::size(r.wire_bytes_down),
        r.seconds
    )
}
