//! Body of the fuzz target `tape`: the fuzzer writes the tape.

use crate::options::Options;
use crate::rng::Rng;
use crate::run::run_tape;

/// Most bytes of a tape. What the fuzzer can make sense of is shorter.
const TAPE_MAX_BYTES: usize = 16 << 10;

/// Draws the knobs from the head of the tape, runs the deployment from the rest.
///
/// # Panics
/// If a check fails: that is a finding.
pub fn tape(data: &[u8]) {
    let mut tape = Rng::from_bytes(&data[..data.len().min(TAPE_MAX_BYTES)]);
    let drawn = Options::draw(&mut tape);
    let options = Options { events: drawn.events.min(40), seed: 0, tape_bytes: data.len() as u64, ..drawn };
    let report = run_tape(&options, tape, false);
    assert!(report.failed.is_none(), "{report}");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_tape_seeds_hold() {
        ropeway_core::fuzz::replay("tape", super::tape);
    }

    #[test]
    fn an_empty_tape_is_a_quiet_run() {
        super::tape(&[]);
    }
}
