//! A log opened for reading: without the lock, without writing a byte, beside a running daemon.

use ropeway_core::code::Code;
use ropeway_core::event::Event;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::log::MAX_BODY_BYTES;
use ropeway_core::policy::{Policy, Principal, authorize};
use ropeway_core::recovery::Recovered;
use ropeway_core::streams::FrontierEntry;

use crate::dir::{DataDir, NodeFile};
use crate::error::{Error, Result};
use crate::store::{Damage, Index, Reader, Stop, recover};

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
        let node = dir.node()?;
        let opened = recover(dir, node.name, 1024, MAX_BODY_BYTES)?;
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

    /// What the log holds of each stream, in the order in which they were first written.
    pub fn frontier(&self) -> impl Iterator<Item = FrontierEntry> {
        self.recovered.frontier()
    }

    /// Everything that is not as it should be.
    #[must_use]
    pub fn damages(&self) -> &[Damage] {
        &self.damages
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
    /// from `from_seq` on, until it says stop. Ranges that damage has left are skipped and returned.
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
            let Some(grant) = authorize(Policy::Own, Principal::Owner, &entry.key).read else { continue };
            let (mut next, mut stopped) = (from_seq.max(1), false);
            while next <= entry.top && !stopped {
                let mut done = next - 1;
                let outcome = self.reader.read(&self.index, &grant, n, next, entry.top, |seq, _, event| {
                    let stop = each(&entry.key, seq, event);
                    stopped = stop != Stop::No;
                    done = seq;
                    stop
                });
                match outcome {
                    Ok(()) => {}
                    Err(Error { code: Code::Corrupt, .. }) => {}
                    Err(e) => return Err(e),
                }
                if done < entry.top && !stopped {
                    let from = done + 1;
                    let resume = self.index.next_from(n, from + 1).unwrap_or(entry.top + 1);
                    if done < next || resume > from {
                        missing.push((entry.key, from, resume - 1));
                        done = resume - 1;
                    }
                }
                next = done + 1;
            }
            if stopped {
                break;
            }
        }
        Ok(missing)
    }
}

fn wanted(filter: &Filter, key: &StreamKey) -> bool {
    filter.node.is_none_or(|n| n == key.node) && filter.lane.is_none_or(|l| l == key.lane)
}
