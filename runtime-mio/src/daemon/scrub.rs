//! Scrubbing beside everything else that the disk does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ropeway_std::DataDir;
use ropeway_std::repair::set_aside;
use ropeway_std::scrub::{Pace, Progress, ScrubRate, Scrubbed};
use ropeway_std::store::{Damage, DirFiles, Store};

/// Reads a piece of the log when the disk thread has nothing else to do and it is time.
#[derive(Debug)]
pub(super) struct Scrubber {
    dir: DataDir,
    pace: Pace,
}

impl Scrubber {
    pub(super) fn new(dir: DataDir, rate: ScrubRate) -> Self {
        Self { dir, pace: Pace::new(rate) }
    }

    pub(super) fn begin(&self, store: &mut Store) {
        store.begin_scrub(DirFiles::new(&self.dir), Progress::load(&self.dir).unwrap_or_default());
    }

    /// How long the disk may wait for a job before the next piece; `None` for ever.
    pub(super) fn wait(&self, store: &Store) -> Option<Duration> {
        if store.is_suspicious() { Some(Duration::ZERO) } else { self.pace.wait() }
    }

    /// Reads a piece; damaged pages, set aside, with the digests of what stands there.
    pub(super) fn step(&mut self, store: &mut Store) -> Option<Vec<(Damage, [u8; 32])>> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        let piece = self.pace.piece();
        let spent = match store.scrub(piece, now_ms) {
            Scrubbed::Found(found) => return Some(set_aside(&self.dir, &mut DirFiles::new(&self.dir), &found)),
            Scrubbed::Read(bytes) => bytes,
            Scrubbed::Through(progress) => {
                progress.save(&self.dir);
                piece as u64
            }
            // An empty log: it is looked at again as if a piece had been read.
            Scrubbed::Idle => piece as u64,
        };
        let log_bytes = store.log_bytes();
        self.pace.spend(spent, log_bytes);
        None
    }
}
