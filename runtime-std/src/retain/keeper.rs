//! Removing by and by, while the log is at work.

use std::time::{Duration, Instant};

use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::policy::Role;

use super::plan::judge;
use super::{Plan, Terms};
use crate::dir::DataDir;
use crate::error::Result;
use crate::machine::random;
use crate::store::{Files, Store};

/// How often the rule is looked at when nothing else gives cause.
const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// When it is tried again if the log is being written just then.
const RETRY: Duration = Duration::from_secs(1);
/// Segments that are removed in one step hold no more than this, or are one: all of it is read once more.
const STEP_BYTES: u64 = 16 << 20;

/// What was removed: of each stream up to which event, and the chain hash there. It must be told to the
/// node ([`Node::expired`](ropeway_core::node::Node::expired)).
pub type Gone = Vec<(StreamKey, u64, Chain)>;

/// Applies the rule of a node to its log, in small steps.
#[derive(Debug)]
pub struct Keeper {
    dir: DataDir,
    name: NodeName,
    role: Role,
    due: Instant,
    /// What was said last, so that it is not said every time.
    said: Option<Code>,
}

impl Keeper {
    /// The keeper of the node in `dir`. It looks at nothing in its first minutes unless it is
    /// [woken](Keeper::wake).
    #[must_use]
    pub fn new(dir: &DataDir, name: NodeName, role: Role) -> Self {
        Self { dir: dir.clone(), name, role, due: Instant::now() + INTERVAL, said: None }
    }

    /// How long [`Keeper::step`] has nothing to do.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.due.saturating_duration_since(Instant::now())
    }

    /// Something has changed: look at once.
    pub fn wake(&mut self) {
        self.due = Instant::now();
    }

    /// Removes some segments if it is time and the rule wants it; what is gone. Call it when nothing else is
    /// to be done. What fails is logged and tried again later: nothing is lost by it. `wall_ms`: what the
    /// clock shows.
    pub fn step<F: Files>(&mut self, store: &mut Store<F>, wall_ms: u64) -> Gone {
        if self.due > Instant::now() {
            return Vec::new();
        }
        if !store.is_at_rest() {
            self.due = Instant::now() + RETRY;
            return Vec::new();
        }
        self.due = Instant::now() + INTERVAL;
        match self.work(store, wall_ms) {
            Ok(gone) => {
                if !gone.is_empty() {
                    self.wake();
                }
                self.said = None;
                gone
            }
            Err(e) => {
                if self.said.replace(e.code) != Some(e.code) {
                    log::warn!("nothing is removed from the log: {e}");
                }
                Vec::new()
            }
        }
    }

    fn work<F: Files>(&mut self, store: &mut Store<F>, wall_ms: u64) -> Result<Gone> {
        let terms = Terms::read(&self.dir, self.role, wall_ms)?;
        if terms.rule.is_none() {
            return Ok(Vec::new());
        }
        remove_some(store, self.name, &terms, &mut random)
    }
}

/// Judges the whole log.
///
/// # Errors
/// Those of reading it.
pub(crate) fn judge_all<F: Files>(store: &mut Store<F>, name: NodeName, terms: &Terms) -> Result<Plan> {
    judge(store.look(name)?, terms, true)
}

/// Removes the oldest segments that may go, as many as are worth a step; what is gone, nothing if the log is
/// being written or sealed just then. `random`: 32 bytes from a cryptographic source.
///
/// # Errors
/// Those of reading the log and of removing.
pub fn remove_some<F: Files>(
    store: &mut Store<F>,
    name: NodeName,
    terms: &Terms,
    random: &mut dyn FnMut() -> Result<[u8; 32]>,
) -> Result<Gone> {
    if !store.is_at_rest() {
        return Ok(Vec::new());
    }
    // Mostly a look at the oldest segment is enough; the rest means reading what is not sealed.
    match store.oldest()? {
        Some((sketch, log_bytes)) if terms.wants(&sketch, log_bytes).is_ok() => {}
        _ => return Ok(Vec::new()),
    }
    let plan = judge(store.look(name)?, terms, false)?;
    let mut bytes = 0;
    let step = plan.going().take_while(|s| {
        bytes += s.bytes;
        bytes <= STEP_BYTES || bytes == s.bytes
    });
    let Some(upto) = step.last().map(|s| s.number) else { return Ok(Vec::new()) };
    let floors = store.expire(upto, &|key, seq| plan.may_go(key, seq), random)?;
    log::info!("removed the log's segments up to {upto}");
    Ok(floors.into_iter().map(|(key, (seq, chain))| (key, seq, chain)).collect())
}
