//! Bodies of the fuzz targets (`fuzz/`): each takes any bytes and panics if a promise is broken.
//!
//! They live here because they check what is not public, and so that plain tests replay the seeds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failure here is a finding")]

mod batch;
mod control;
mod frame;
mod sealed;
mod segment;
mod session;

pub use batch::{batch, batch_of_events};
pub use control::control;
pub use frame::frame;
pub use sealed::sealed;
pub use segment::segment;
pub use session::session;

/// Cursor over the fuzzer's choices. Out of bytes it gives zeros.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    fn u16(&mut self) -> u16 {
        u16::from(self.byte()) | u16::from(self.byte()) << 8
    }

    /// Of any size, small ones as likely as large ones.
    fn number(&mut self) -> u64 {
        let shift = self.byte() % 64;
        let mut bytes = [0; 8];
        let drawn = self.take(8 - usize::from(shift / 8));
        bytes[..drawn.len()].copy_from_slice(drawn);
        u64::from_le_bytes(bytes) & u64::MAX >> shift
    }

    /// The next `n` bytes, or as many as there are.
    fn take(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n.min(self.0.len()));
        self.0 = tail;
        head
    }
}

/// Runs a target over the seeds that are committed for it (`fuzz/corpus/`): for plain tests, here and in
/// the other crates that have targets.
///
/// # Panics
/// If there are no seeds, and as `run`.
pub fn replay(target: &str, run: impl Fn(&[u8])) {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        seeds += 1;
    }
    assert!(seeds > 0, "no seeds in {}", dir.display());
}

#[cfg(test)]
mod tests {
    use super::replay;

    #[test]
    fn the_control_seeds_hold() {
        replay("control", super::control);
    }

    #[test]
    fn the_frame_seeds_hold() {
        replay("frame", super::frame);
    }

    #[test]
    fn the_sealed_seeds_hold() {
        replay("sealed", super::sealed);
    }

    #[test]
    fn the_segment_seeds_hold() {
        replay("segment", super::segment);
    }

    #[test]
    fn the_session_seeds_hold() {
        replay("session", super::session);
    }
}
