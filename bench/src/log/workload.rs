//! Logs to be measured.

use std::path::Path;

use ropeway_core::id::{Lane, NodeName};
use ropeway_core::limits::Limits;
use ropeway_std::keygen::init_node;
use ropeway_std::{DataDir, Options, Replica};

use crate::Result;
use crate::progress::bar;

/// Bytes of an event's payload where nothing else is said: a short registration.
pub(crate) const PAYLOAD_BYTES: usize = 100;

/// A new node in a folder of this name.
pub(crate) fn node(home: &Path, name: &str) -> Result<(DataDir, Replica)> {
    node_with(home, name, Limits::clinic())
}

/// As [`node`], of these sizes.
pub(crate) fn node_with(home: &Path, name: &str, limits: Limits) -> Result<(DataDir, Replica)> {
    let dir = DataDir::new(home.join(name));
    init_node(&dir, NodeName::new("bench").map_err(|e| e.to_string())?)?;
    let replica = Replica::open(dir.clone(), Options { limits, ..Options::default() })?;
    Ok((dir, replica))
}

/// Payloads that no compression makes shorter: what is measured is the log, not the data.
pub(crate) struct Payloads {
    state: u64,
    bytes: Vec<u8>,
}

impl Payloads {
    /// Of so many bytes each.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, bytes: vec![0; bytes] }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> &[u8] {
        for part in self.bytes.chunks_mut(8) {
            // xorshift64*
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes();
            part.copy_from_slice(&word[..part.len()]);
        }
        &self.bytes
    }
}

/// Events that are committed together when a log is filled: what a busy day leaves at a hub.
const GROUP: u64 = 1_000;

/// A log of so many events in three lanes.
pub(crate) fn log_of(home: &Path, events: u64) -> Result<DataDir> {
    let (dir, mut node) = node(home, &format!("log-{events}"))?;
    let (mut payloads, bar) = (Payloads::new(PAYLOAD_BYTES), bar(&format!("writing {events} events"), events));
    for n in 0..events {
        let lane = Lane::ALL[[1, 1, 1, 1, 1, 1, 0, 2][(n % 8) as usize]];
        node.append(lane, (n % 5) as u16, payloads.next())?;
        if n % GROUP == GROUP - 1 {
            node.commit()?;
            bar.set_position(n);
        }
    }
    node.commit()?;
    bar.finish_and_clear();
    Ok(dir)
}

/// Drops what the system has cached of a folder's files. They must have been synced.
pub(crate) fn drop_cache(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            drop_cache(&path)?;
        } else if path.is_file() {
            let file = std::fs::File::open(&path)?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
