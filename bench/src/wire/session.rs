//! Small sessions: what it costs to say something, or nothing.

use std::path::Path;

use ropeway_core::id::Lane;
use ropeway_std::DataDir;

use super::air::Air;
use super::call::{HUB, Pair};
use super::host::{CLOCK, Host, Packing, make_clinic, make_hub, meet};
use super::{NAME, append, home};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// About so many events has a clinic synced before its small sessions begin.
const HISTORY: usize = 200;
/// How far behind that an event of usual size is looked for.
const CHOICE: usize = 50;

/// What a session, or a part of one, has cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cost {
    /// Bytes of TCP payload up and down.
    pub(super) bytes: [u64; 2],
    /// Bytes of frames both ways: the rest is TLS.
    pub(super) frame_bytes: u64,
    /// From the beginning to the acknowledgement, or to where it is known that there is nothing to do.
    pub(super) round_trips: f64,
    /// To the last GOODBYE.
    pub(super) end_round_trips: Option<f64>,
    pub(super) resumed: bool,
    /// With early data.
    pub(super) early: bool,
}

impl Cost {
    pub(super) fn all(&self) -> u64 {
        self.bytes.iter().sum()
    }
}

/// One session in which so many events are sent, from SYN to the last GOODBYE.
pub(super) fn session(pair: &mut Pair, corpus: &Corpus, range: std::ops::Range<usize>) -> Result<Cost> {
    append(pair, corpus, range, Lane::Normal, 0)?;
    let mut call = pair.dial(Air::far())?;
    call.until_caught_up()?;
    let round_trips = call.round_trips(call.begun_us);
    call.finish()?;
    let end_round_trips = Some(call.round_trips(call.begun_us));
    let (bytes, frame_bytes) = (call.bytes(), call.frame_bytes);
    let (resumed, early) = (call.is_resumed(), call.is_early());
    Ok(Cost { bytes, frame_bytes, round_trips, end_round_trips, resumed, early })
}

/// One event within a session that is open and idle, with its acknowledgement.
pub(super) fn within(pair: &mut Pair, corpus: &Corpus, n: usize) -> Result<Cost> {
    let mut call = pair.dial(Air::far())?;
    call.stays = true;
    call.until_caught_up()?;
    // What was on its way has arrived, and both are silent.
    call.until_us(call.pair.now_us + 5_000_000)?;
    let (before, frames_before, from_us) = (call.bytes(), call.frame_bytes, call.pair.now_us);
    append(call.pair, corpus, n..n + 1, Lane::Normal, 0)?;
    call.until_caught_up()?;
    let (after, round_trips) = (call.bytes(), call.round_trips(from_us));
    let (resumed, frame_bytes) = (call.is_resumed(), call.frame_bytes - frames_before);
    call.finish()?;
    let bytes = [after[0] - before[0], after[1] - before[1]];
    Ok(Cost { bytes, frame_bytes, round_trips, end_round_trips: None, resumed, early: false })
}

/// The event of a corpus that the small sessions send, of a usual size: the clinic has synced those before it.
pub(crate) fn typical(corpus: &Corpus) -> usize {
    let mean = corpus.data.len() / corpus.len().max(1);
    let from = HISTORY.min(corpus.len().saturating_sub(1));
    let choice = from..(from + CHOICE).min(corpus.len());
    choice.min_by_key(|&n| corpus.event(n).1.len().abs_diff(mean)).unwrap_or(from)
}

/// A hub that knows so many clinics by one event of each, and a clinic whose first `history` events it has.
pub(crate) fn known(home: &Path, clinics: u32, corpus: &Corpus, history: usize, packing: Packing) -> Result<Pair> {
    let hub = make_hub(home, CLOCK)?;
    let clinic = make_clinic(home, &hub, NAME, CLOCK)?;
    let mut pair = Pair::open(&clinic, &hub, packing)?;
    acquaint(&mut pair.hosts[HUB], &hub, home, clinics.saturating_sub(1))?;
    append(&mut pair, corpus, 0..history, Lane::Normal, 60)?;
    let mut call = pair.dial(Air::cable())?;
    call.finish()?;
    pair.now_us += 3_600_000_000;
    Ok(pair)
}

/// The hub meets this many other clinics.
fn acquaint(hub: &mut Host, ca: &DataDir, home: &Path, clinics: u32) -> Result<()> {
    let bar = bar("other clinics", u64::from(clinics));
    if clinics == 0 {
        return Ok(());
    }
    // One directory that each of them uses in turn: only names and streams matter here.
    let dir = make_clinic(home, ca, "other", CLOCK)?;
    for n in 0..clinics {
        let name = format!("clinic_{n:04}");
        let mut other = Host::open_as(&dir, 0, &name)?;
        other.append(0, Lane::Normal, 0, name.as_bytes())?;
        other.drive(0)?;
        meet(&mut other, &name, hub, 0)?;
        drop(other);
        std::fs::remove_dir_all(dir.log())?;
        if hub.held(&name).is_empty() {
            return Err(format!("the hub has not heard of {name}").into());
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(())
}

/// What a session is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One event over a new connection.
    One,
    /// One event over a connection that is resumed.
    OneResumed,
    /// The same with early data.
    OneEarly,
    /// One event within an open session.
    OneOpen,
    /// Nothing new, over a new connection.
    Idle,
    /// Nothing new, over a connection that is resumed.
    IdleResumed,
}

/// What it costs, between nodes that know each other and a hub that knows so many clinics.
pub(super) fn cost(kind: Kind, corpus: &Corpus, clinics: u32, packing: Packing) -> Result<Cost> {
    let (home, n) = (home()?, typical(corpus));
    let mut pair = known(home.path(), clinics, corpus, n, packing)?;
    match kind {
        Kind::One | Kind::Idle => pair.forget_tickets()?,
        Kind::OneResumed | Kind::OneOpen | Kind::IdleResumed => {}
        Kind::OneEarly => {
            pair.allow_early_data()?;
            pair.dial(Air::cable())?.finish()?;
            pair.now_us += 3_600_000_000;
        }
    }
    let cost = match kind {
        Kind::One | Kind::OneResumed | Kind::OneEarly => session(&mut pair, corpus, n..n + 1)?,
        Kind::OneOpen => within(&mut pair, corpus, n)?,
        Kind::Idle | Kind::IdleResumed => session(&mut pair, corpus, 0..0)?,
    };
    let expected = match kind {
        Kind::Idle | Kind::IdleResumed => n,
        Kind::One | Kind::OneResumed | Kind::OneEarly | Kind::OneOpen => n + 1,
    };
    match kind {
        _ if pair.at_hub() != expected as u64 => Err("the hub does not hold what was sent".into()),
        Kind::OneResumed | Kind::IdleResumed if !cost.resumed => Err("the connection was not resumed".into()),
        _ if matches!(kind, Kind::OneEarly) != cost.early => Err("early data where there is none, or none".into()),
        _ => Ok(cost),
    }
}

pub(super) fn measure(corpora: &[Corpus], clinics: u32) -> Result<Table> {
    let mut table = Table::new(
        "session",
        "Small sessions: bytes of TCP with TLS, and round trips from SYN to where all is acknowledged",
        &[
            ("session", "session"),
            ("corpus", "corpus"),
            ("payload_bytes", "event (B)"),
            ("up_bytes", "up (B)"),
            ("down_bytes", "down (B)"),
            ("bytes", "all (B)"),
            ("zstd_bytes", "with zstd (B)"),
            ("target_bytes", "target (B)"),
            ("frame_bytes", "of it frames"),
            ("round_trips", "round trips"),
            ("target_round_trips", "target"),
            ("end_round_trips", "to the end"),
        ],
    );
    let mut row = |what: &str, event: Option<(&Corpus, Cost)>, cost: Cost, bytes: Option<f64>, trips: Option<f64>| {
        let (event, zstd) = event.unzip();
        let [up, down] = cost.bytes;
        table.row(vec![
            Cell::Text(what.into()),
            event.map_or(Cell::Nothing, |c| Cell::Text(c.name.clone())),
            Cell::maybe(event.map(|c| c.event(typical(c)).1.len() as f64), 0),
            Cell::Count(up),
            Cell::Count(down),
            Cell::Count(cost.all()),
            zstd.map_or(Cell::Nothing, |cost| Cell::Count(cost.all())),
            Cell::maybe(bytes, 0),
            Cell::Count(cost.frame_bytes),
            Cell::Figure(cost.round_trips, 2),
            Cell::maybe(trips, 0),
            Cell::maybe(cost.end_round_trips, 2),
        ]);
    };
    for corpus in corpora {
        let one = [
            ("1 event, new connection", Kind::One, 1_350.0, 3.0),
            ("1 event, resumed", Kind::OneResumed, 900.0, 2.0),
            ("1 event, resumed, early data", Kind::OneEarly, 900.0, 2.0),
            ("1 event, open session", Kind::OneOpen, 110.0, 1.0),
        ];
        for (what, kind, bytes, trips) in one {
            let zstd = cost(kind, corpus, 1, Packing::Zstd)?;
            row(what, Some((corpus, zstd)), cost(kind, corpus, 1, Packing::Model)?, Some(bytes), Some(trips));
        }
    }
    let corpus = corpora.first().ok_or("no corpus")?;
    row("nothing new, new connection", None, cost(Kind::Idle, corpus, 1, Packing::Model)?, None, None);
    for clinics in [1, clinics] {
        let what = format!("nothing new, resumed, hub of {clinics}");
        row(&what, None, cost(Kind::IdleResumed, corpus, clinics, Packing::Model)?, Some(760.0), None);
    }
    table.note(format!(
        "From ClientHello to the last GOODBYE; what is not frames is TLS. Within an open session, from the event to its \
         acknowledgement. The hub holds about {HISTORY} events of the clinic before. \"Resumed\" keeps the client's \
         tickets from one connection to the next, as a process does that stays. \"Early data\" is an option that is off \
         by default."
    ));
    Ok(table)
}
