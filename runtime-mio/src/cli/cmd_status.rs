//! `ropeway status`.

use std::ops::ControlFlow;

use ropeway_core::policy::Role;
use ropeway_core::streams::FrontierEntry;
use ropeway_std::budget::{Account, Day};
use ropeway_std::fetch::Asked;
use ropeway_std::pass::{Filter, Pass, Seen, Visitor};
use ropeway_std::repair::Judged;
use ropeway_std::retain::Rule;
use ropeway_std::scrub::Progress;
use ropeway_std::{DataDir, DirLock, LogView, NodeIdentity};
use serde::Serialize;

use super::args::StatusArgs;
use super::cmd_sign::role_word;
use super::{Outcome, Output, Result, cmd_retain, passphrase, show, time};

/// The result for programs.
#[derive(Serialize)]
struct Status {
    node: String,
    role: &'static str,
    deployment: Option<String>,
    /// Whether there is a certificate.
    signed: bool,
    /// Process that works on the directory.
    locked_by: Option<u32>,
    streams: Vec<Stream>,
    events: u64,
    acknowledged: u64,
    waiting: u64,
    log_bytes: u64,
    /// What may be removed from the log.
    rule: Option<Rule>,
    /// Events that were removed.
    expired: u64,
    damages: Vec<show::DamageRow>,
    /// How far the log is scrubbed; none if it never was.
    scrub: Option<Scrub>,
    /// Bytes of the wire; none if it never synced.
    traffic: Option<Traffic>,
}

/// What syncs have used.
#[derive(Serialize)]
struct Traffic {
    /// Bytes of the present day (UTC), and the budget of a day that was given last.
    today_bytes: u64,
    day_bytes: Option<u64>,
    days: Vec<UsedDay>,
}

/// One day on which something was used.
#[derive(Serialize)]
struct UsedDay {
    day: String,
    up_bytes: u64,
    down_bytes: u64,
    /// Counted ahead, or never given back by a sync that was killed.
    ahead_bytes: u64,
}

impl From<Account> for Traffic {
    fn from(a: Account) -> Self {
        let day = |d: &Day| UsedDay {
            day: time::day(d.day.saturating_mul(86_400)),
            up_bytes: d.up,
            down_bytes: d.down,
            ahead_bytes: d.ahead,
        };
        Traffic { today_bytes: a.used_today(), day_bytes: a.day_bytes, days: a.days.iter().map(day).collect() }
    }
}

/// How far the log is scrubbed.
#[derive(Serialize)]
struct Scrub {
    /// Segments that were read in this round, and how many there are.
    read: u64,
    segments: u64,
    /// When a segment was read last, this round began and the one before it ended.
    last: Option<String>,
    round_began: Option<String>,
    round_ended: Option<String>,
}

impl From<Progress> for Scrub {
    fn from(p: Progress) -> Self {
        let at = |ms: u64| (ms > 0).then(|| time::utc(ms));
        let (last, round_began, round_ended) = (at(p.last_ms), at(p.round_began_ms), at(p.round_ended_ms));
        Scrub { read: p.read, segments: p.segments, last, round_began, round_ended }
    }
}

#[derive(Serialize)]
struct Stream {
    node: String,
    lane: &'static str,
    incarnation: String,
    /// Whether this node writes it.
    own: bool,
    events: u64,
    /// By a hub; only what this node has sent itself is known.
    acknowledged: u64,
    /// Own events that no hub has acknowledged.
    waiting: u64,
    /// Everything up to this event was removed by the rule; 0 if nothing was.
    expired_upto: u64,
    /// Some of these were never here: they were gone where they came from.
    never_held: bool,
    /// First and last event of what is missing.
    gap: Option<(u64, u64)>,
    /// Between these, both inclusive, are events that are not here though what follows them is: they were withheld or
    /// refused. `verify` names them.
    withheld: Option<(u64, u64)>,
    /// Between these, both inclusive, are own events that a hub does not have, though it has what follows them.
    not_at_hub: Option<(u64, u64)>,
    /// These are asked for once more (`fetch`), and come with the next sync or are withheld again.
    asked: Option<(u64, u64)>,
}

impl From<FrontierEntry> for Stream {
    fn from(e: FrontierEntry) -> Self {
        let missing = e.gap.map_or(0, |(from, to)| to + 1 - from);
        Stream {
            node: e.key.node.to_string(),
            lane: e.key.lane.as_str(),
            incarnation: e.key.incarnation.to_string(),
            own: e.own,
            events: e.top - missing - e.floor,
            acknowledged: if e.own { e.acked } else { 0 },
            waiting: if e.own { e.top.saturating_sub(e.acked) } else { 0 },
            expired_upto: e.floor,
            never_held: e.skipped,
            gap: e.gap,
            withheld: e.withheld,
            not_at_hub: e.lacks,
            asked: None,
        }
    }
}

/// Says who the node is and what its log holds. Works beside a process that writes.
///
/// # Errors
/// Those of [`LogView::open`].
pub fn run(args: &StatusArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    let view = LogView::open_quickly(&dir)?;
    // A certificate knows it better than the file from before it was signed.
    let is_hub = NodeIdentity::load(&dir).is_ok_and(|id| id.role() == Role::Hub);
    let role = if is_hub { Role::Hub } else { view.node.role };
    // What damage has cost shows only in what stands behind it.
    let judged = view.judged();
    let damaged = judged.iter().any(Judged::is_loss);
    let pass = if damaged { Some(read_through(&dir)?) } else { None };
    let asked = Asked::read(&dir).unwrap_or_else(|e| {
        out.warn(format_args!("no withheld events are asked for: {e}"));
        Vec::new()
    });
    let row = |e: FrontierEntry| {
        let asked = asked.iter().find(|a| a.key == e.key).map(|a| (a.from, a.to));
        Stream { asked, ..Stream::from(e) }
    };
    let streams: Vec<Stream> = view.frontier().map(row).collect();
    let sum = |of: fn(&Stream) -> u64| streams.iter().map(of).sum();
    let rule = Rule::read(&dir).unwrap_or_else(|e| {
        out.warn(format_args!("nothing is removed from the log: {e}"));
        None
    });
    let status = Status {
        node: view.node.name.to_string(),
        role: role_word(role),
        deployment: view.node.deployment.map(|d| d.to_string()),
        signed: dir.node_crt().exists(),
        locked_by: DirLock::holder(&dir),
        events: sum(|s| s.events),
        acknowledged: sum(|s| s.acknowledged),
        waiting: sum(|s| s.waiting),
        expired: sum(|s| s.expired_upto),
        streams,
        log_bytes: view.log_bytes(),
        rule,
        damages: show::damage_rows(&judged, pass.as_ref()),
        scrub: Progress::load(&dir).map(Scrub::from),
        traffic: Account::read(&dir).map(Traffic::from),
    };
    for line in text(&status, &judged, pass.as_ref()) {
        out.line(line)?;
    }
    out.object(&status)?;
    Ok(Outcome::Done)
}

struct Nobody;

impl Visitor for Nobody {
    fn event(&mut self, _: &Seen<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn read_through(dir: &DataDir) -> Result<Pass> {
    let mut pass = Pass::new(dir)?;
    let _ = pass.run(&Filter::default(), &mut Nobody)?;
    Ok(pass)
}

fn text(s: &Status, judged: &[Judged], pass: Option<&Pass>) -> Vec<String> {
    let deployment = s.deployment.as_deref().map_or("none yet".to_owned(), str::to_owned);
    let signed = if s.signed { "signed" } else { "not signed yet" };
    let process = s.locked_by.map_or("none".to_owned(), |pid| format!("{pid} works on it"));
    let mut lines = vec![
        format!("node        {} ({}, {signed})", s.node, s.role),
        format!("deployment  {deployment}"),
        format!("process     {process}"),
        format!("log         {}, {}", show::counted(s.events, "event"), show::size(s.log_bytes)),
    ];
    if let Some(scrub) = &s.scrub {
        let day = |at: &Option<String>| at.as_deref().map_or("never".to_owned(), |t| t.chars().take(10).collect());
        let (last, ended) = (day(&scrub.last), day(&scrub.round_ended));
        let (read, all) = (scrub.read, show::counted(scrub.segments, "segment"));
        lines.push(format!("scrubbed    {read} of {all} in this round, last on {last}; whole log: {ended}"));
    }
    if s.streams.iter().any(|s| s.own) {
        lines.push(format!("sent        {} acknowledged, {} waiting", s.acknowledged, s.waiting));
    }
    if let Some((used, all)) = s.traffic.as_ref().and_then(|t| Some((t.today_bytes, t.day_bytes?))) {
        lines.push(format!("budget      {} of {} used today", show::size(used), show::size(all)));
    }
    if s.rule.is_some() || s.expired > 0 {
        lines.push(format!("rule        {}", cmd_retain::text(s.rule.as_ref())));
        lines.push(format!("expired     {}", show::counted(s.expired, "event")));
    }
    if !s.streams.is_empty() {
        let wide = s.streams.iter().map(|s| s.node.len()).max().unwrap_or(0).max(4);
        lines.push(String::new());
        lines.push(format!(
            "{:wide$}  {:6}  {:16}  {:>9}  {:>9}  {:>9}  {:>9}  gap",
            "node", "lane", "incarnation", "events", "expired", "acked", "waiting"
        ));
        lines.extend(s.streams.iter().map(|s| {
            let own = |n: u64| if s.own { n.to_string() } else { "-".to_owned() };
            let gap = s.gap.map_or("-".to_owned(), |(from, to)| format!("{from}..{to}"));
            format!(
                "{:wide$}  {:6}  {:16}  {:>9}  {:>9}  {:>9}  {:>9}  {gap}",
                s.node,
                s.lane,
                s.incarnation,
                s.events,
                if s.never_held { format!("{}*", s.expired_upto) } else { s.expired_upto.to_string() },
                own(s.acknowledged),
                own(s.waiting)
            )
        }));
    }
    if s.streams.iter().any(|s| s.never_held) {
        lines.push("* some of these were never here: they were gone where they came from".to_owned());
    }
    for stream in &s.streams {
        let of = format!("{}/{}/{}", stream.node, stream.incarnation, stream.lane);
        for (range, where_not) in [(stream.withheld, "here"), (stream.not_at_hub, "at the hub")] {
            let Some((from, to)) = range else { continue };
            lines.push(match from == to {
                true => format!("withheld    event {from} of {of} is not {where_not}, and what follows it is"),
                false => format!("withheld    some of events {from} to {to} of {of} are not {where_not}"),
            });
        }
        if let Some((from, to)) = stream.asked {
            let what = if from == to { format!("event {from}") } else { format!("events {from} to {to}") };
            lines.push(format!("asked for   {what} of {of}: with the next sync"));
        }
    }
    if !judged.is_empty() {
        lines.push(String::new());
        lines.extend(show::damage_lines(judged, pass));
    }
    lines
}
