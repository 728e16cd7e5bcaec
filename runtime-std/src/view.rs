//! A log opened for reading: without the lock, without writing a byte, beside a running daemon.

use ropeway_core::code::Code;
use ropeway_core::event::{Chain, Event};
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::log::MAX_BODY_BYTES;
use ropeway_core::policy::{Policy, Principal, authorize};
use ropeway_core::recovery::Recovered;
use ropeway_core::streams::FrontierEntry;

use crate::dir::{DataDir, NodeFile};
use crate::error::{Error, Result};
use crate::repair::Judged;
use crate::store::{Damage, DirFiles, Index, Opened, Reader, Stop, recover, recover_quickly};

/// Streams for which room is made at first.
const STREAMS: usize = 1024;
/// How often the log is read again where it seems damaged and is perhaps being written to.
const RESCANS_MAX: usize = 16;

/// See the [module](self).
///
/// A writer may be adding to the log meanwhile: what it was just writing looks like a torn tail
/// here, and is simply not seen.
#[derive(Debug)]
pub struct LogView {
    /// Whose log it is.
    pub node: NodeFile,
    recovered: Recovered<'static>,
    index: Index,
    reader: Reader,
    damages: Vec<Damage>,
    log_bytes: u64,
    groups: u64,
}

/// Which streams are wanted. `None` means all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// Of this node.
    pub node: Option<NodeName>,
    /// Of this lane.
    pub lane: Option<Lane>,
}

impl LogView {
    /// Reads the log of `dir` and checks every tag and chain on the way.
    ///
    /// # Errors
    /// [`Code::NotInitialised`], [`Code::WrongKey`], [`Code::FormatNewer`], ... Damage is no error.
    pub fn open(dir: &DataDir) -> Result<LogView> {
        Self::open_with(dir, |node| recover(dir, node.name, STREAMS, MAX_BODY_BYTES))
    }

    /// As [`LogView::open`], but what lies before the checkpoint is not read: as quick for a long log
    /// as for a short one. Damage there is found when the events are read, or by [`LogView::open`].
    ///
    /// # Errors
    /// As [`LogView::open`].
    pub fn open_quickly(dir: &DataDir) -> Result<LogView> {
        // Where there is no node, no key is missing.
        dir.node()?;
        let keys = crate::store::keys(dir)?;
        let mut files = DirFiles::new(dir);
        Self::open_with(dir, |node| recover_quickly(&mut files, &keys, node.name, STREAMS, MAX_BODY_BYTES))
    }

    fn open_with(dir: &DataDir, mut recover: impl FnMut(&NodeFile) -> Result<Opened>) -> Result<LogView> {
        let node = dir.node()?;
        let mut opened = Self::recover_beside(&node, &mut recover)?;
        // A page that was empty when we came by and the page behind it, written and read a moment
        // later, look like a hole. Damage stays where it is, such a hole does not.
        let mut before = losses(&opened.damages);
        for _ in 0..RESCANS_MAX {
            if before.is_empty() {
                break;
            }
            opened = Self::recover_beside(&node, &mut recover)?;
            let now = losses(&opened.damages);
            if now == before {
                break;
            }
            before = now;
        }
        Ok(LogView {
            node,
            recovered: opened.recovered,
            index: opened.index,
            reader: Reader::new(dir)?,
            damages: opened.damages,
            log_bytes: opened.log_bytes,
            groups: opened.groups,
        })
    }

    /// Reads the log; once more if a segment is removed while it is read.
    fn recover_beside(node: &NodeFile, recover: &mut impl FnMut(&NodeFile) -> Result<Opened>) -> Result<Opened> {
        for _ in 0..RESCANS_MAX {
            match recover(node) {
                Err(e) if e.code == Code::SegmentMissing || crate::identity::not_found(&e) => {}
                other => return other,
            }
        }
        recover(node)
    }

    /// What the log holds of each stream, in the order in which they were first written.
    pub fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.recovered.frontier()
    }

    /// Everything that is not as it should be.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// What became of each damage, and of those that the log tells of though their pages are gone.
    #[must_use]
    pub fn judged(&self) -> Vec<Judged> {
        self.index.ledger().judge(&self.damages)
    }

    /// Bytes of the segment files.
    #[must_use]
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes
    }

    /// Commit groups in the log.
    #[must_use]
    pub fn groups(&self) -> u64 {
        self.groups
    }

    /// Calls `each` with every event of the streams that `filter` lets through, stream by stream,
    /// from `from_seq` on, until it says stop. Ranges that damage has left are skipped and returned; what was
    /// removed on purpose ([`FrontierEntry::floor`]) is skipped, and so is what is not here ([`Event::withheld`]).
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(
        &mut self,
        filter: &Filter,
        from_seq: u64,
        mut each: impl FnMut(&StreamKey, u64, &Event<'_>) -> Stop,
    ) -> Result<Vec<(StreamKey, u64, u64)>> {
        let mut missing = Vec::new();
        let streams: Vec<_> = self.recovered.streams().filter(|(_, e)| wanted(filter, &e.key)).collect();
        for (n, entry) in streams {
            if self.read_numbered(n, &entry, from_seq, &mut missing, &mut each)? {
                break;
            }
        }
        Ok(missing)
    }

    /// As [`LogView::read`], for one stream; nothing if the log has none of it.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read_stream(
        &mut self,
        key: &StreamKey,
        from_seq: u64,
        mut each: impl FnMut(&StreamKey, u64, &Event<'_>) -> Stop,
    ) -> Result<Vec<(StreamKey, u64, u64)>> {
        let mut missing = Vec::new();
        let found = self.recovered.streams().find(|(_, e)| e.key == *key);
        if let Some((n, entry)) = found {
            self.read_numbered(n, &entry, from_seq, &mut missing, &mut each)?;
        }
        Ok(missing)
    }

    /// As [`LogView::read_stream`], with the chain hash before each event, up to the next gap.
    ///
    /// # Errors
    /// [`Code::Corrupt`] if event `from_seq` cannot be read, [`Code::Expired`] if it was removed.
    pub(crate) fn read_chained(
        &mut self,
        key: &StreamKey,
        from_seq: u64,
        each: impl FnMut(u64, &Chain, &Event<'_>) -> Stop,
    ) -> Result<()> {
        let found = self.recovered.streams().find(|(_, e)| e.key == *key);
        let grant = authorize(Policy::Own, Principal::Owner, key).read;
        let Some(((n, entry), grant)) = found.zip(grant) else { return Ok(()) };
        self.reader.read(&self.index, &grant, n, from_seq, entry.top, each)
    }

    /// True if `each` has said stop.
    fn read_numbered(
        &mut self,
        n: u32,
        entry: &FrontierEntry,
        from_seq: u64,
        missing: &mut Vec<(StreamKey, u64, u64)>,
        each: &mut impl FnMut(&StreamKey, u64, &Event<'_>) -> Stop,
    ) -> Result<bool> {
        let Some(grant) = authorize(Policy::Own, Principal::Owner, &entry.key).read else { return Ok(false) };
        let (mut next, mut stopped) = (from_seq.max(entry.floor + 1), false);
        while next <= entry.top {
            let mut done = next - 1;
            let outcome = self.reader.read(&self.index, &grant, n, next, entry.top, |seq, _, event| {
                let stop = if event.withheld().is_some() { Stop::No } else { each(&entry.key, seq, event) };
                stopped = stop != Stop::No;
                done = seq;
                stop
            });
            match outcome {
                Ok(()) | Err(Error { code: Code::Corrupt | Code::Tampered, .. }) => {}
                Err(e) => return Err(e),
            }
            if stopped {
                return Ok(true);
            }
            next = done + 1;
            if next > entry.top {
                break;
            }
            // Event `next` cannot be read. What stands behind it?
            let resume = self.reader.next_from(&self.index, n, &entry.key, next + 1).unwrap_or(entry.top + 1);
            match missing.last_mut() {
                Some((key, _, last)) if *key == entry.key && *last + 1 == next => *last = resume - 1,
                _ => missing.push((entry.key, next, resume - 1)),
            }
            next = resume;
        }
        Ok(false)
    }
}

fn losses(damages: &[Damage]) -> Vec<Damage> {
    damages.iter().filter(|d| d.is_loss()).cloned().collect()
}

fn wanted(filter: &Filter, key: &StreamKey) -> bool {
    filter.node.is_none_or(|n| n == key.node) && filter.lane.is_none_or(|l| l == key.lane)
}
