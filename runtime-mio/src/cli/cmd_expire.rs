//! `ropeway expire`.

use ropeway_core::code::Code;
use ropeway_std::retain::{Evidence, Fate, Plan, Rule, Segment, Stay, Terms, explain};
use ropeway_std::{Error, Options};
use serde::Serialize;

use super::args::ExpireArgs;
use super::{CliError, Outcome, Output, Result, cmd_retain, passphrase, show, time};

/// The result for programs.
#[derive(Serialize)]
struct Expired {
    dry_run: bool,
    rule: Option<Rule>,
    /// `receipts` on a clinic, `backup` on a hub.
    evidence: &'static str,
    /// When the backup was taken that is marked.
    backup_taken_ms: Option<u64>,
    log_bytes: u64,
    bytes_going: u64,
    /// The last segment that was removed before.
    gone_upto: Option<u64>,
    segments: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    segment: u64,
    bytes: u64,
    from_ms: Option<u64>,
    to_ms: Option<u64>,
    streams: usize,
    events: u64,
    goes: bool,
    /// Why, as a word for programs.
    reason: &'static str,
    /// The same in words.
    says: String,
}

/// Removes what the rule wants to be rid of, or says what would go and why the rest stays.
///
/// # Errors
/// [`Code::Locked`] if another process works on the directory: that one follows the rule by itself; those of
/// [`ropeway_std::Replica::expire`] and [`explain`].
pub fn run(args: &ExpireArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let (terms, plan) = if args.dry_run {
        explain(&dir)?
    } else {
        let mut replica = show::open(&dir, Options::default()).map_err(|e| locked(e, args))?;
        replica.expire()?
    };
    let expired = Expired {
        dry_run: args.dry_run,
        rule: terms.rule,
        evidence: if terms.evidence == Evidence::Receipts { "receipts" } else { "backup" },
        backup_taken_ms: match &terms.evidence {
            Evidence::Backup(Some(mark)) => Some(mark.taken_ms),
            _ => None,
        },
        log_bytes: plan.log_bytes,
        bytes_going: plan.bytes_going(),
        gone_upto: plan.gone_upto,
        segments: plan.segments.iter().map(row).collect(),
    };
    for line in text(&expired, &terms, &plan) {
        out.line(line)?;
    }
    out.object(&expired)?;
    Ok(Outcome::Done)
}

fn locked(e: CliError, args: &ExpireArgs) -> CliError {
    match e {
        CliError::Fault(e) if e.code == Code::Locked => {
            let what = "it follows the rule by itself; --dry-run shows what goes and what stays";
            CliError::Fault(Error::at(Code::Locked, &args.data_dir, what).with_source(e))
        }
        other => other,
    }
}

fn row(s: &Segment) -> Row {
    let (goes, reason) = match &s.fate {
        Fate::Goes(why) => (true, why.word()),
        Fate::Stays(stay) => (false, stay.word()),
    };
    Row {
        segment: s.number,
        bytes: s.bytes,
        from_ms: s.span_ms.map(|m| m.0),
        to_ms: s.span_ms.map(|m| m.1),
        streams: s.streams,
        events: s.events,
        goes,
        reason,
        says: says(s),
    }
}

fn says(s: &Segment) -> String {
    match &s.fate {
        Fate::Goes(why) => why.to_string(),
        Fate::Stays(Stay::Young { until_ms: Some(ms) }) => format!("too young until {}", time::minute(ms / 1000)),
        Fate::Stays(stay) => stay.to_string(),
    }
}

fn text(e: &Expired, terms: &Terms, plan: &Plan) -> Vec<String> {
    let mut lines = vec![format!("rule      {}", cmd_retain::text(e.rule.as_ref()))];
    lines.push(match &terms.evidence {
        Evidence::Receipts => "evidence  a hub's receipts in the log".to_owned(),
        Evidence::Backup(None) => "evidence  none: no backup is marked".to_owned(),
        Evidence::Backup(Some(mark)) => format!("evidence  the backup of {}", time::minute(mark.taken_ms / 1000)),
    });
    let (count, size) = (show::counted(plan.going().count() as u64, "segment"), show::size(e.bytes_going));
    let verb = if e.dry_run { "would go" } else { "removed" };
    lines.push(format!("{verb:8}  {count}, {size} of {}", show::size(e.log_bytes)));
    if let Some(gone) = e.gone_upto {
        lines.push(format!("before    segments up to {gone} were removed"));
    }
    if !e.segments.is_empty() {
        lines.push(String::new());
        lines.push(format!(
            "{:>8}  {:>9}  {:20}  {:20}  {:>8}  {:>7}",
            "segment", "size", "from", "to", "events", "streams"
        ));
    }
    for s in &e.segments {
        let time = |ms: Option<u64>| ms.map_or("-".to_owned(), |ms| time::minute(ms / 1000));
        let word = match (s.goes, e.dry_run) {
            (true, true) => "goes",
            (true, false) => "gone",
            _ => "stays",
        };
        lines.push(format!(
            "{:>8}  {:>9}  {:20}  {:20}  {:>8}  {:>7}  {word}: {}",
            s.segment,
            show::size(s.bytes),
            time(s.from_ms),
            time(s.to_ms),
            s.events,
            s.streams,
            s.says
        ));
    }
    lines
}
