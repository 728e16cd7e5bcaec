//! What this machine looks like: clocks, and a fingerprint by which a copied card is noticed.

use std::os::unix::fs::MetadataExt;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ropeway_core::time::Now;

use crate::dir::DataDir;

/// Longest `restored.json`.
const RESTORED_MAX_BYTES: usize = 16 * 1024;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl SystemClock {
    /// What the clocks show.
    #[must_use]
    pub fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        Now::new(self.start.elapsed().as_millis() as u64, wall)
    }
}

/// A number that changes when the log is copied: made of the machine's id, the processor's serial
/// number, the card's id and the inode of the log's directory. A restored backup and a copied
/// directory have another inode, a cloned card has another card id or sits in another machine. What
/// was restored from a snapshot has a random number of its own, since an inode may be used again.
/// Moving the directory within its file system changes nothing. Never 0.
#[must_use]
pub fn fingerprint(dir: &DataDir) -> u64 {
    let mut all = String::new();
    all.push_str(&std::fs::read_to_string("/etc/machine-id").unwrap_or_default());
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    all.extend(cpu.lines().filter(|l| l.starts_with("Serial")));
    all.push_str(&std::fs::read_to_string("/sys/block/mmcblk0/device/cid").unwrap_or_default());
    if let Ok(meta) = std::fs::metadata(dir.log()) {
        all.push_str(&meta.ino().to_string());
    }
    if let Ok(mark) = crate::dir::read_bounded(&dir.restored(), RESTORED_MAX_BYTES) {
        all.push_str(&String::from_utf8_lossy(&mark));
    }
    let digest = blake3::hash(all.as_bytes());
    let mut eight = [0; 8];
    eight.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_le_bytes(eight).max(1)
}

/// 32 bytes from the system's cryptographic source.
///
/// # Errors
/// [`Code::Io`](ropeway_core::code::Code::Io).
pub fn random() -> crate::error::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    let code = ropeway_core::code::Code::Io;
    getrandom::fill(&mut bytes).map_err(|e| crate::error::Error::new(code, format!("no random numbers: {e}")))?;
    Ok(bytes)
}
