//! Up to where a backup of a hub exists: `backup.json`. A hub removes nothing that lies behind it.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;
use serde::{Deserialize, Serialize};

use crate::dir::{Access, DataDir, exists, read_bounded, write_atomic};
use crate::error::{Error, Result};
use crate::snapshot::{Manifest, head, parse_head};
use crate::store::Stop;
use crate::view::LogView;

/// Version of the file that this program writes.
const VERSION: u32 = 1;
const LIMIT_BYTES: usize = 256 << 20;

/// Up to which event of each stream a backup exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// When the backup was taken, in milliseconds since 1970, by the machine's clock.
    pub taken_ms: u64,
    /// The last event of each stream in it, and the chain hash there.
    pub heads: BTreeMap<StreamKey, (u64, Chain)>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u32,
    taken_ms: u64,
    heads: Vec<String>,
}

impl Mark {
    /// The mark of a node, `None` if it has none.
    ///
    /// # Errors
    /// [`Code::Config`] if the file cannot be understood, [`Code::FormatNewer`], [`Code::Io`]. Nothing is to
    /// be removed then.
    pub fn read(dir: &DataDir) -> Result<Option<Self>> {
        let path = dir.backup_json();
        if !exists(&path)? {
            return Ok(None);
        }
        Self::parse(&read_bounded(&path, LIMIT_BYTES)?).map(Some).map_err(|e| e.in_file(&path))
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let json: Json = super::versioned(bytes, VERSION)?;
        Ok(Self { taken_ms: json.taken_ms, heads: heads_of(&json.heads, Code::Config)? })
    }

    /// What a snapshot of this node holds.
    ///
    /// # Errors
    /// [`Code::BadSnapshot`] if it is incomplete, of another node, or of a log that was damaged.
    pub fn of_snapshot(manifest: &Manifest, node: &str) -> Result<Self> {
        let bad = |what: String| Error::new(Code::BadSnapshot, what);
        if manifest.node != node {
            return Err(bad(format!("it is of {}, this is {node}", manifest.node)));
        }
        if let Some(damage) = manifest.damages.first() {
            return Err(bad(format!(
                "the log was damaged when it was taken, so it does not hold everything: {damage}"
            )));
        }
        Ok(Self { taken_ms: manifest.taken_ms, heads: heads_of(&manifest.heads, Code::BadSnapshot)? })
    }

    /// Everything that the log holds now.
    ///
    /// # Errors
    /// Those of reading a log; [`Code::Corrupt`] if it is damaged.
    pub fn of_log(dir: &DataDir, now_ms: u64) -> Result<Self> {
        let mut view = whole(dir)?;
        let held = view.frontier().filter(|e| e.top > e.floor);
        let tops: Vec<(StreamKey, u64)> = held.map(|e| (e.key, e.top)).collect();
        let mut heads = BTreeMap::new();
        for (key, top) in tops {
            // Of a stream that was removed whole nothing is left to be backed up.
            if let Some(chain) = chain_at(&mut view, &key, top)? {
                heads.insert(key, (top, chain));
            }
        }
        Ok(Self { taken_ms: now_ms, heads })
    }

    /// Makes it the node's mark, if the log has the same history. Says how many streams it covers.
    ///
    /// # Errors
    /// [`Code::Fork`] if a stream has another chain hash in the log, [`Code::TailLost`] if the log has lost
    /// events that the backup has; [`Code::Corrupt`] if the log is damaged; [`Code::Io`] and its kin.
    pub fn set(&self, dir: &DataDir) -> Result<usize> {
        let mut view = whole(dir)?;
        let entries: BTreeMap<StreamKey, (u64, u64)> = view.frontier().map(|e| (e.key, (e.floor, e.top))).collect();
        for (key, (seq, chain)) in &self.heads {
            let (floor, top) = entries.get(key).copied().unwrap_or_default();
            if *seq > top {
                let what = format!("the backup has event {seq} of {key}, the log ends at {top}");
                return Err(Error::new(Code::TailLost, what));
            }
            // What was removed since cannot be compared, and need not be.
            if *seq > floor && chain_at(&mut view, key, *seq)? != Some(*chain) {
                let what = format!("event {seq} of {key} has another history in the backup than in the log");
                return Err(Error::new(Code::Fork, what));
            }
        }
        let heads = self.heads.iter().map(|(key, (seq, chain))| head(key, *seq, chain)).collect();
        let json = Json { version: VERSION, taken_ms: self.taken_ms, heads };
        let path = dir.backup_json();
        let mut bytes = serde_json::to_vec_pretty(&json)
            .map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
        bytes.push(b'\n');
        write_atomic(&path, &bytes, Access::Public)?;
        Ok(self.heads.len())
    }

    /// Up to which event of a stream a backup exists.
    #[must_use]
    pub fn covers(&self, key: &StreamKey) -> u64 {
        self.heads.get(key).map_or(0, |h| h.0)
    }
}

fn heads_of(words: &[String], code: Code) -> Result<BTreeMap<StreamKey, (u64, Chain)>> {
    let parse = |word: &String| {
        parse_head(word).map(|(key, seq, chain)| (key, (seq, chain))).ok_or_else(|| Error::new(code, "a head"))
    };
    words.iter().map(parse).collect()
}

/// The log, if nothing of it is lost.
fn whole(dir: &DataDir) -> Result<LogView> {
    let view = LogView::open_quickly(dir)?;
    match view.damages().iter().find(|d| d.is_loss()) {
        Some(d) => Err(Error::new(Code::Corrupt, format!("{} in segment {}; run `ropeway verify`", d.code, d.segment))),
        None => Ok(view),
    }
}

/// The chain hash of a stream at an event that the log holds.
fn chain_at(view: &mut LogView, key: &StreamKey, seq: u64) -> Result<Option<Chain>> {
    let mut found = None;
    view.read_chained(key, seq, |at, chain, event| {
        found = (at == seq).then(|| chain.then(event));
        Stop::After
    })?;
    Ok(found)
}
