//! `ropeway sync --dry-run`.

use ropeway_std::DataDir;
use ropeway_std::budget::{Budget, Forecast, LaneBacklog, forecast};
use serde::Serialize;

use super::output::{ErrorFields, message};
use super::{Outcome, Output, Result, show};

/// The result for programs.
#[derive(Serialize)]
struct Row<'a> {
    dry_run: bool,
    lanes: Vec<Lane>,
    events: u64,
    payload_bytes: u64,
    /// Estimated, all in all.
    wire_bytes: u64,
    /// How `wire_bytes` was estimated.
    estimate: &'static str,
    /// Estimated by the link that the last sync has measured; none if none has.
    seconds: Option<f64>,
    bytes_per_s: Option<u64>,
    rtt_ms: Option<u64>,
    /// Wire bytes that a sync may use now; none if there is no limit.
    left_bytes: Option<u64>,
    /// Whether a sync may begin now and has room for all of it.
    fits: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'a>>,
}

#[derive(Serialize)]
struct Lane {
    lane: &'static str,
    events: u64,
    payload_bytes: u64,
    wire_bytes: u64,
}

impl From<&LaneBacklog> for Lane {
    fn from(l: &LaneBacklog) -> Self {
        let (lane, events) = (l.lane.as_str(), l.events);
        Lane { lane, events, payload_bytes: l.payload_bytes, wire_bytes: l.wire_bytes }
    }
}

/// Says what a sync would send and cost. Connects nowhere.
///
/// # Errors
/// Those of [`forecast`].
pub(super) fn run(dir: &DataDir, budget: &Budget, out: &mut Output) -> Result<Outcome> {
    let f = forecast(dir, budget)?;
    let refusal = f.refusal.as_ref().map(|e| (e.code, message(e)));
    for line in text(&f, refusal.as_ref().map(|(code, text)| format!("{code}: {text}"))) {
        out.line(line)?;
    }
    out.object(&Row {
        dry_run: true,
        lanes: f.lanes.iter().map(Lane::from).collect(),
        events: f.lanes.iter().map(|l| l.events).sum(),
        payload_bytes: f.lanes.iter().map(|l| l.payload_bytes).sum(),
        wire_bytes: f.wire_bytes,
        estimate: "compressed",
        seconds: f.seconds,
        bytes_per_s: f.link.bytes_per_s,
        rtt_ms: f.link.rtt_ms,
        left_bytes: f.left,
        fits: f.fits(),
        error: refusal.as_ref().map(|(code, text)| ErrorFields::new(*code, text)),
    })?;
    Ok(if f.fits() { Outcome::Done } else { Outcome::Incomplete })
}

fn text(f: &Forecast, refusal: Option<String>) -> Vec<String> {
    let mut lines = Vec::new();
    for l in &f.lanes {
        let (events, payloads) = (show::counted(l.events, "event"), show::size(l.payload_bytes));
        lines.push(format!(
            "{:10}  {events}, {payloads}, about {} on the wire",
            l.lane.as_str(),
            show::size(l.wire_bytes)
        ));
    }
    let bytes = show::size(f.wire_bytes);
    lines.push(format!("together    about {bytes} with the connection; compressed as a sync would, to tell it"));
    lines.push(match (f.seconds, f.link.bytes_per_s) {
        (Some(s), Some(rate)) => {
            let rtt = f.link.rtt_ms.map_or(String::new(), |ms| format!(" and {ms} ms a round trip"));
            format!("time        about {}, at {}/s{rtt} as the last sync measured", show::span(s), show::size(rate))
        }
        _ => "time        unknown: no sync has measured the link yet".to_owned(),
    });
    lines.push(match (refusal, f.left) {
        (Some(refusal), _) => format!("budget      none now: {refusal}"),
        (None, None) => "budget      no limit".to_owned(),
        (None, Some(left)) if f.fits() => format!("budget      {} may be used now, which is enough", show::size(left)),
        (None, Some(left)) => {
            let syncs = f.wire_bytes.div_ceil(left.max(1));
            format!("budget      {} may be used now; all of it takes {syncs} times that", show::size(left))
        }
    });
    lines
}
