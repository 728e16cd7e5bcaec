//! The sessions that clinics may resume: a ticket is a name of 32 random bytes, what it stands for is
//! kept here. Each is good for one use and one day, and the oldest go when there are too many.
//!
//! A hub's lie in its directory too, sealed, so that a restart costs its clinics no full handshakes.
//! They are written when the hub stops and now and then before. After a crash, a ticket that was used
//! since then would be taken once more: that lets nobody in who does not hold its secret. Early data
//! that comes with a ticket of a former process is not heard before the handshake has ended (see `early`),
//! so nothing of a recorded connection has an effect.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ropeway_core::log::DataKey;
use rustls::server::StoresServerSessions;
use zeroize::Zeroizing;

use super::Clock;
use super::ticket_file::{self, FILE_MAX_BYTES};
use crate::dir::{Access, DataDir, read_bounded, write_atomic};
use crate::error::Result;
use crate::identity::NodeIdentity;
use crate::machine::random;

/// A ticket's name as rustls draws it.
pub(super) type Name = [u8; 32];

/// For how long a ticket is good, in seconds: what rustls tells the client.
const LIFETIME_S: u64 = 24 * 60 * 60;
/// Longest content; that of a clinic is about 500 bytes.
pub(super) const CONTENT_MAX_BYTES: usize = 4096;
/// Least time between two writes while the hub is at work.
const WRITE_EVERY: Duration = Duration::from_secs(10 * 60);

/// What a ticket stands for, with the secret of its session.
pub(super) struct Kept {
    pub(super) made_s: u64,
    pub(super) content: Zeroizing<Vec<u8>>,
}

/// The sessions that may be resumed. Cheap to clone: all clones are one.
#[derive(Clone)]
pub struct Tickets {
    shared: Arc<Shared>,
}

struct Shared {
    most: usize,
    clock: Clock,
    place: Option<Place>,
    book: Mutex<Book>,
}

/// Where they lie while the hub is not there.
struct Place {
    path: PathBuf,
    key: Zeroizing<[u8; 32]>,
}

struct Book {
    kept: HashMap<Name, (u64, Kept)>,
    /// Names in the order in which they were made.
    by_age: BTreeMap<u64, Name>,
    next: u64,
    changed: bool,
    written: Instant,
}

impl Tickets {
    /// At most `most` of them, in memory only. 0 is none.
    #[must_use]
    pub fn new(most: usize, clock: Clock) -> Self {
        Self::with(most, clock, None)
    }

    fn with(most: usize, clock: Clock, place: Option<Place>) -> Self {
        let (kept, by_age) = (HashMap::new(), BTreeMap::new());
        let book = Book { kept, by_age, next: 0, changed: false, written: Instant::now() };
        Self { shared: Arc::new(Shared { most, clock, place, book: Mutex::new(book) }) }
    }

    /// Those of the hub in `dir`, which are sealed under a key that is derived from `key`, and bound
    /// to the hub's certificates: with another CA, whom they let in was judged by somebody else.
    /// What cannot be read is left out, with a line in the log: it costs full handshakes.
    #[must_use]
    pub fn open(dir: &DataDir, id: &NodeIdentity, key: &DataKey, most: usize, clock: Clock) -> Self {
        let (path, key) = (dir.tickets(), ticket_file::key(key, id));
        let tickets = Self::with(most, clock, Some(Place { path, key }));
        if let Err(e) = tickets.read() {
            log::warn!("{e}; clinics shake hands in full");
        }
        tickets
    }

    fn read(&self) -> Result<()> {
        let Some(place) = &self.shared.place else { return Ok(()) };
        if !place.path.exists() {
            return Ok(());
        }
        let bytes = read_bounded(&place.path, FILE_MAX_BYTES)?;
        let all = ticket_file::open(&place.key, bytes).map_err(|e| e.in_file(&place.path))?;
        let mut book = self.book();
        for (name, kept) in all {
            self.insert(&mut book, name, kept);
        }
        book.changed = false;
        Ok(())
    }

    /// Writes them if something has changed since they were last written.
    ///
    /// # Errors
    /// Those of writing a file: then they are lost with the process.
    pub fn write(&self) -> Result<()> {
        let Some(place) = &self.shared.place else { return Ok(()) };
        let now_s = self.shared.clock.now_s();
        let plain = {
            let mut book = self.book();
            book.written = Instant::now();
            if !std::mem::take(&mut book.changed) {
                return Ok(());
            }
            let newest = book.by_age.values().rev().filter_map(|name| book.kept.get(name).map(|(_, k)| (name, k)));
            ticket_file::plain(newest.filter(|(_, k)| is_good(k, now_s)))
        };
        write_atomic(&place.path, &ticket_file::seal(&place.key, &random()?, plain)?, Access::Secret)
    }

    /// As [`Tickets::write`], when it is time; an error is told in the log.
    pub fn write_if_due(&self) {
        if self.wait().is_zero() {
            self.write_or_tell();
        }
    }

    /// As [`Tickets::write`]; an error is told in the log.
    pub fn write_or_tell(&self) {
        if let Err(e) = self.write() {
            log::warn!("{e}; after a restart clinics shake hands in full");
        }
    }

    /// How long until it is time to write.
    #[must_use]
    pub fn wait(&self) -> Duration {
        if self.shared.place.is_none() {
            return WRITE_EVERY;
        }
        WRITE_EVERY.saturating_sub(self.book().written.elapsed())
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // Whatever a thread that panicked has left is a map all the same.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert(&self, book: &mut Book, name: Name, kept: Kept) {
        let number = book.next;
        book.next += 1;
        if let Some((old, _)) = book.kept.insert(name, (number, kept)) {
            book.by_age.remove(&old);
        }
        book.by_age.insert(number, name);
        while book.kept.len() > self.shared.most {
            let Some((_, oldest)) = book.by_age.pop_first() else { return };
            book.kept.remove(&oldest);
        }
    }
}

fn is_good(kept: &Kept, now_s: u64) -> bool {
    now_s.saturating_sub(kept.made_s) < LIFETIME_S
}

impl StoresServerSessions for Tickets {
    fn put(&self, name: Vec<u8>, content: Vec<u8>) -> bool {
        let content = Zeroizing::new(content);
        let Ok(name) = Name::try_from(name) else { return false };
        if content.len() > CONTENT_MAX_BYTES || self.shared.most == 0 {
            return false;
        }
        let kept = Kept { made_s: self.shared.clock.now_s(), content };
        let mut book = self.book();
        book.changed = true;
        self.insert(&mut book, name, kept);
        true
    }

    /// Never: TLS 1.3 takes.
    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, name: &[u8]) -> Option<Vec<u8>> {
        let name = Name::try_from(name).ok()?;
        let mut book = self.book();
        let (number, kept) = book.kept.remove(&name)?;
        book.by_age.remove(&number);
        book.changed = true;
        is_good(&kept, self.shared.clock.now_s()).then(|| kept.content.to_vec())
    }

    fn can_cache(&self) -> bool {
        self.shared.most > 0
    }
}

impl std::fmt::Debug for Tickets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tickets").field("most", &self.shared.most).finish_non_exhaustive()
    }
}
