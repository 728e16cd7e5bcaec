//! Withheld events that are asked for once more, because what kept them away is gone.
//!
//! Of such an event only the place is here (docs/LOG.md#withheld-1). A file, `asked.json`, says which of them are
//! wanted; the log keeps the places, so that nothing is forgotten if the events never come. Whoever opens the node
//! asks for them ([`Node::ask`]), and when they have come, or were withheld again, they leave the file. What lies
//! between the first and the last place of a stream comes again: a stream is asked for in one piece.

use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::log::LostRange;
use ropeway_core::node::{Loss, Node};
use ropeway_core::policy::{Policy, Principal, ReadGrant, authorize};
use ropeway_core::streams::FrontierEntry;
use ropeway_core::time::Now;
use serde::{Deserialize, Serialize};

use crate::dir::{Access, DataDir, exists, read_bounded, sync_dir, write_atomic};
use crate::error::{Error, IoContext, Result};
use crate::replica::Replica;
use crate::retain::versioned;
use crate::snapshot::parse_stream;
use crate::store::{Files, Index, Reader, Stop, Store};

/// Version of the file that this program writes.
const VERSION: u32 = 1;
const LIMIT_BYTES: usize = 16 << 20;

/// Events of a stream that are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The stream.
    pub key: StreamKey,
    /// The first of them, a place.
    pub from: u64,
    /// The last of them, a place.
    pub to: u64,
}

/// What asking for the places of a stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The events.
    pub asked: Asked,
    /// How many of them are places.
    pub places: u64,
    /// Bytes of these events' payloads, as far as they are known.
    pub bytes: u64,
    /// Events between the places, which are here and come again.
    pub again: u64,
    /// Bytes of their payloads.
    pub again_bytes: u64,
    ends: (Chain, Chain),
}

/// What [`Replica::fetch`] has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// What is asked for.
    pub wanted: Vec<Wanted>,
    /// Streams from which damage has taken something here, and which are left out until that is mended: a sync
    /// asks for it by itself.
    pub damaged: Vec<StreamKey>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    ranges: Vec<Range>,
}

#[derive(Serialize, Deserialize)]
struct Range {
    stream: String,
    from: u64,
    to: u64,
}

impl Asked {
    /// What is asked for in `dir`.
    ///
    /// # Errors
    /// [`Code::Config`] if the file cannot be understood, [`Code::FormatNewer`] if a newer program wrote it,
    /// [`Code::Io`].
    pub fn read(dir: &DataDir) -> Result<Vec<Asked>> {
        let path = dir.asked_json();
        if !exists(&path)? {
            return Ok(Vec::new());
        }
        Self::parse(&read_bounded(&path, LIMIT_BYTES)?).map_err(|e| e.in_file(&path))
    }

    fn parse(bytes: &[u8]) -> Result<Vec<Asked>> {
        let range = |r: &Range| {
            let key = parse_stream(&r.stream).filter(|_| 0 < r.from && r.from <= r.to);
            let key = key.ok_or_else(|| Error::new(Code::Config, "a range"))?;
            Ok(Asked { key, from: r.from, to: r.to })
        };
        versioned::<Json>(bytes, VERSION)?.ranges.iter().map(range).collect()
    }
}

/// What a node that is open has asked for.
#[derive(Clone, Debug)]
pub struct Asks {
    dir: DataDir,
    /// The second: the node knows of it.
    list: Vec<(Asked, bool)>,
    /// The durable group at which was looked last.
    seen_group: Option<u64>,
}

impl Asks {
    /// Asks for what `asked.json` names and is not here yet. Call it when the node was opened, before its first
    /// session. A file that cannot be read is told and asks for nothing: the places stay.
    #[must_use]
    pub fn begin<F: Files>(dir: &DataDir, node: &mut Node<'_>, store: &mut Store<F>, now: Now) -> Asks {
        let mut asks = Asks { dir: dir.clone(), list: Vec::new(), seen_group: None };
        let file = Asked::read(dir).unwrap_or_else(|e| {
            log::warn!("{e}; no withheld events are asked for");
            Vec::new()
        });
        let streams: Vec<(u32, FrontierEntry)> = if file.is_empty() { Vec::new() } else { node.streams().collect() };
        for asked in &file {
            let found = streams.iter().find(|(_, e)| e.key == asked.key);
            // What has come before the node was closed is no place any more.
            let Some((n, (from, to))) = found.and_then(|(n, e)| Some((*n, within(places_of(e)?, asked)?))) else {
                continue;
            };
            let asked = Asked { from, to, ..*asked };
            let known = ends_of(store, n, &asked).is_some_and(|ends| node.ask(now, &loss(&asked, ends)));
            match known {
                true => log::info!("{}: asks once more for events {from} to {to}", asked.key),
                false => log::warn!("{}: events {from} to {to} cannot be asked for before damage is mended", asked.key),
            }
            asks.list.push((asked, known));
        }
        if asks.list.len() < file.len() {
            asks.save_or_tell();
        }
        asks
    }

    /// True if something has come, or was withheld again, and the file is to be written: [`Asks::save_or_tell`] of
    /// this or of a copy does that. Call it when groups have become durable.
    pub fn poll(&mut self, node: &Node<'_>) -> bool {
        let durable = node.durable_group();
        if self.list.is_empty() || self.seen_group == Some(durable) {
            return false;
        }
        self.seen_group = Some(durable);
        let before = self.list.len();
        let is_open = |asked: &Asked| node.entry_of(&asked.key).is_some_and(|e| e.have < asked.to);
        self.list.retain(|(asked, known)| !known || is_open(asked));
        self.list.len() < before
    }

    /// What is asked for.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.list.iter().map(|(asked, _)| asked)
    }

    /// Writes the file. If that fails, events that were withheld again are asked for once more at the next start.
    pub fn save_or_tell(&self) {
        if let Err(e) = self.save() {
            log::warn!("{e}");
        }
    }

    fn save(&self) -> Result<()> {
        let path = self.dir.asked_json();
        if self.list.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
                other => other.at("removing", &path).and_then(|()| sync_dir(self.dir.root())),
            };
        }
        let range = |a: &Asked| Range { stream: a.key.to_string(), from: a.from, to: a.to };
        let json = Json { version: VERSION, ranges: self.asked().map(range).collect() };
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
        bytes.push(b'\n');
        write_atomic(&path, &bytes, Access::Public)
    }
}

impl Replica {
    /// Asks once more for the events of which only places are here: of all nodes, or of one. They come with the
    /// next [`sync`](Replica::sync), also after the node was opened again, or are withheld again; until then the
    /// places stay, and count for everybody who reads here. `dry_run`: only says what it would ask for.
    ///
    /// # Errors
    /// [`Code::Corrupt`] if the log cannot be read there; [`Code::Io`] and its kin: then nothing is asked for.
    pub fn fetch(&mut self, of: Option<NodeName>, dry_run: bool) -> Result<Fetched> {
        let mut fetched = Fetched::default();
        let streams: Vec<(u32, FrontierEntry)> = self.node.streams().collect();
        for (n, e) in streams.into_iter().filter(|(_, e)| of.is_none_or(|node| e.key.node == node)) {
            let Some((from, to)) = places_of(&e) else { continue };
            let asked = self.asks.list.iter().any(|(a, known)| a.key == e.key && *known);
            if e.gap.is_some() && !asked {
                fetched.damaged.push(e.key);
                continue;
            }
            fetched.wanted.extend(look(&mut self.store, n, &Asked { key: e.key, from, to })?);
        }
        if dry_run || fetched.wanted.is_empty() {
            return Ok(fetched);
        }
        let mut asks = Asks { seen_group: None, ..self.asks.clone() };
        asks.list.retain(|(a, _)| fetched.wanted.iter().all(|w| w.asked.key != a.key));
        asks.list.extend(fetched.wanted.iter().map(|w| (w.asked, true)));
        asks.save()?;
        self.asks = asks;
        let now = self.clock.now();
        for Wanted { asked, ends, .. } in &fetched.wanted {
            self.node.unask(now, &asked.key);
            self.node.ask(now, &loss(asked, *ends));
        }
        Ok(fetched)
    }

    /// Takes back what was asked for, of all nodes or of one: the places count again as if nobody had asked.
    ///
    /// # Errors
    /// [`Code::Io`] and its kin: then nothing has changed.
    pub fn take_back(&mut self, of: Option<NodeName>) -> Result<Vec<Asked>> {
        let mut asks = self.asks.clone();
        asks.list.retain(|(a, _)| of.is_some_and(|node| a.key.node != node));
        let gone: Vec<Asked> = self.asks.asked().filter(|a| !asks.asked().any(|b| b == *a)).copied().collect();
        asks.save()?;
        self.asks = asks;
        for asked in &gone {
            self.node.unask(self.clock.now(), &asked.key);
        }
        Ok(gone)
    }
}

/// Between which events all places of a stream are that are not removed.
fn places_of(e: &FrontierEntry) -> Option<(u64, u64)> {
    let (from, to) = e.withheld?;
    Some((from.max(e.floor + 1), to)).filter(|(from, to)| from <= to)
}

fn within((from, to): (u64, u64), asked: &Asked) -> Option<(u64, u64)> {
    Some((from.max(asked.from), to.min(asked.to))).filter(|(from, to)| from <= to)
}

fn loss(asked: &Asked, (before, last): (Chain, Chain)) -> Loss {
    let Asked { key, from, to } = *asked;
    Loss { range: LostRange { key, from, to }, before: Some(before), last: Some(last) }
}

fn grant(key: &StreamKey) -> Option<ReadGrant> {
    authorize(Policy::Own, Principal::Owner, key).read
}

/// The chain hashes before the first and up to the last event.
fn ends_of<F: Files>(store: &mut Store<F>, n: u32, asked: &Asked) -> Option<(Chain, Chain)> {
    let grant = grant(&asked.key)?;
    let (reader, index) = store.reader();
    let last = around(reader, index, &grant, n, asked.to)?.1;
    Some((before(reader, index, &grant, n, asked)?, last))
}

/// The chain hash before the first event. A place that stands behind others tells it only if what went before it is a place
/// still: of one of which nothing is known, the hash in the log is none.
fn before<F: Files>(reader: &mut Reader<F>, index: &Index, grant: &ReadGrant, n: u32, asked: &Asked) -> Option<Chain> {
    if asked.from == 1 {
        return Some(Chain::start(&asked.key));
    }
    match around(reader, index, grant, n, asked.from - 1) {
        Some((_, after)) => Some(after),
        // It is removed.
        None => Some(around(reader, index, grant, n, asked.from)?.0),
    }
}

/// The chain hashes before and up to an event.
fn around<F: Files>(
    reader: &mut Reader<F>,
    index: &Index,
    grant: &ReadGrant,
    n: u32,
    seq: u64,
) -> Option<(Chain, Chain)> {
    let mut found = None;
    let read = reader.read(index, grant, n, seq, seq, |_, before, event| {
        found = Some((*before, before.then(event)));
        Stop::No
    });
    read.ok().and(found)
}

/// What asking for the places among these events means; `None` if there are none.
fn look<F: Files>(store: &mut Store<F>, n: u32, among: &Asked) -> Result<Option<Wanted>> {
    let Some(grant) = grant(&among.key) else { return Ok(None) };
    let (reader, index) = store.reader();
    let mut wanted: Option<Wanted> = None;
    let (mut since, mut since_bytes) = (0, 0);
    reader.read(index, &grant, n, among.from, among.to, |seq, before, event| {
        let Some(place) = event.withheld() else {
            (since, since_bytes) = (since + 1, since_bytes + event.payload.len() as u64);
            return Stop::No;
        };
        let after = before.then(event);
        let asked = Asked { from: seq, to: seq, ..*among };
        let first = Wanted { asked, places: 0, bytes: 0, again: 0, again_bytes: 0, ends: (*before, after) };
        let (between, between_bytes) = (std::mem::take(&mut since), std::mem::take(&mut since_bytes));
        match &mut wanted {
            Some(w) => (w.again, w.again_bytes) = (w.again + between, w.again_bytes + between_bytes),
            None => wanted = Some(first),
        }
        if let Some(w) = &mut wanted {
            (w.asked.to, w.ends.1) = (seq, after);
            (w.places, w.bytes) = (w.places + 1, w.bytes.saturating_add(place.bytes));
        }
        Stop::No
    })?;
    if let Some(w) = &mut wanted {
        w.ends.0 = before(reader, index, &grant, n, &w.asked).unwrap_or(w.ends.0);
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_as_it_was_written_and_what_makes_no_sense_is_refused() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(tmp.path());
        assert_eq!(Asked::read(&dir).unwrap(), []);
        let key = parse_stream("clinic_a/00000000000000ff/bulk").unwrap();
        let one = Asked { key, from: 6, to: 90 };
        let mut asks = Asks { dir: dir.clone(), list: vec![(one, true)], seen_group: None };
        asks.save().unwrap();
        assert_eq!(Asked::read(&dir).unwrap(), [one]);
        asks.list.clear();
        asks.save().unwrap();
        asks.save().unwrap();
        assert!(!dir.asked_json().exists());
        let range = |stream: &str, from: &str| {
            format!(r#"{{"version":1,"ranges":[{{"stream":"{stream}","from":{from},"to":9}}]}}"#)
        };
        for (text, code) in [
            (String::new(), Code::Config),
            (r#"{"version":2}"#.to_owned(), Code::FormatNewer),
            (range("clinic_a/00000000000000ff", "1"), Code::Config),
            (range("clinic_a/00000000000000ff/bulk", "0"), Code::Config),
            (range("clinic_a/00000000000000ff/bulk", "10"), Code::Config),
            (range("clinic_a/00000000000000ff/bulk", "-1"), Code::Config),
        ] {
            std::fs::write(dir.asked_json(), &text).unwrap();
            assert_eq!(Asked::read(&dir).unwrap_err().code, code, "{text}");
        }
    }
}
