//! States of streams, few and large, shared by all sessions.

use std::fmt;

use ropeway_codec::{Preset, Stream};
use ropeway_core::history::Past;

use super::load::Load;
use super::to_model;

/// What a state should know: these events of this stream, and no others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its session writes, and does not read, with it.
    pub(super) sending: bool,
    pub(super) session: u64,
    pub(super) stream: u32,
    pub(super) from_seq: u64,
    pub(super) before_seq: u64,
}

struct Slot {
    /// What the state knows; `None` while it is lent, and if it was not given back.
    knows: Option<Wanted>,
    /// Nobody but its session may use it: whether its events are the stream's is not known.
    unproved: bool,
    used: u64,
    state: Box<Stream>,
}

/// See the [module](self).
pub(super) struct Pool {
    slots: Vec<Slot>,
    max: usize,
    uses: u64,
    /// The one that was given back last.
    last: usize,
    /// What a state that knows no event knows.
    base: Option<Box<Stream>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} states", self.slots.len(), self.max)
    }
}

impl Slot {
    /// How far before the wanted events it ends, if it knows of them those before and no others.
    fn behind(&self, wanted: &Wanted) -> Option<u64> {
        let knows = self.knows?;
        let session = if self.unproved { wanted.session } else { knows.session };
        let same = Wanted { session, before_seq: knows.before_seq, ..*wanted };
        if same == knows { wanted.before_seq.checked_sub(knows.before_seq) } else { None }
    }
}

impl Pool {
    /// Of at most so many states.
    pub(super) fn new(max: usize) -> Self {
        Self { slots: Vec::new(), max: max.max(1), uses: 0, last: usize::MAX, base: None }
    }

    /// States begin with this one.
    pub(super) fn over(base: Stream, max: usize) -> Self {
        Self { base: Some(Box::new(base)), ..Self::new(max) }
    }

    /// States that there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there is a state that knows this and no more.
    pub(super) fn has(&self, wanted: &Wanted) -> bool {
        self.slots.iter().any(|slot| slot.behind(wanted) == Some(0))
    }

    /// Lends the state that is wanted: the one that knows the most of it, which then learns the rest from the past.
    /// If the past does not hold it, `None`.
    pub(super) fn take(&mut self, wanted: &Wanted, past: &Past<'_>, load: &mut Load) -> Option<usize> {
        self.uses += 1;
        let behind = |n: &usize| self.slots[*n].behind(wanted);
        let nearest = (0..self.slots.len()).filter(|n| behind(n).is_some()).min_by_key(behind);
        let (n, known) = match nearest {
            Some(n) => (n, past.count() - behind(&n)?),
            None => (self.fresh(), 0),
        };
        // The first batch of a session: whatever it learns now, it needs no time later.
        let is_first = self.slots[n].knows.is_none_or(|knows| knows.session != wanted.session);
        if is_first && !wanted.sending {
            load.keep_promise();
        }
        let slot = &mut self.slots[n];
        (slot.knows, slot.used) = (None, self.uses);
        if known == past.count() {
            return Some(n);
        }
        let mut learned = 0;
        for event in past.events().skip(usize::try_from(known).ok()?) {
            slot.state.prime(&to_model(&event));
            load.add(event.payload.len() as u64);
            learned += 1;
        }
        (known + learned == past.count()).then_some(n)
    }

    /// A state that knows nothing: one that nobody needs, a new one, or the one that was not used for longest.
    fn fresh(&mut self) -> usize {
        let unused = self.slots.iter().position(|slot| slot.knows.is_none());
        let n = match unused {
            None if self.slots.len() < self.max => {
                let state = self.base.clone().unwrap_or_else(|| Box::new(Stream::new(Preset::Large)));
                self.slots.push(Slot { knows: None, unproved: false, used: 0, state });
                return self.slots.len() - 1;
            }
            None => (0..self.slots.len()).min_by_key(|&n| self.slots[n].used).unwrap_or(0),
            Some(n) => n,
        };
        match &self.base {
            Some(base) => self.slots[n].state.clone_from(base),
            None => self.slots[n].state.reset(),
        }
        n
    }

    /// A lent state.
    pub(super) fn state(&mut self, n: usize) -> &mut Stream {
        &mut self.slots[n].state
    }

    /// A lent state comes back, and knows this now.
    pub(super) fn give_back(&mut self, n: usize, knows: Wanted, proved: bool) {
        let slot = &mut self.slots[n];
        (slot.knows, slot.unproved) = (Some(knows), !proved);
        self.last = n;
    }

    /// What the state that came back last knows is the stream's.
    pub(super) fn prove_last(&mut self) {
        if let Some(slot) = self.slots.get_mut(self.last) {
            slot.unproved = false;
        }
    }

    /// What this session writes with is not wanted: the memory is worth more than what was learned.
    pub(super) fn drop_of(&mut self, session: u64) {
        self.slots.retain(|slot| !slot.knows.is_some_and(|knows| knows.sending && knows.session == session));
        self.last = usize::MAX;
    }

    /// The number of a stream is of no meaning any more.
    pub(super) fn forget(&mut self, stream: u32) {
        for slot in &mut self.slots {
            slot.knows = slot.knows.filter(|knows| knows.stream != stream);
        }
    }
}
