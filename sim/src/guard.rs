//! A run that panics is a run that fails.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::carrier::AirTotals;
use crate::check::{Check, Failure};
use crate::options::Options;
use crate::report::Report;
use crate::rng::Rng;
use crate::run::run_tape;
use crate::timeline::Timeline;
use crate::world::Counts;

/// Bytes of the tape that a run that panicked may have drawn: nobody knows.
const DRAWN_BYTES: u64 = 1 << 20;

/// As [`run_tape`], but a panic is a failure of [`Check::NoPanic`], with nothing else in the report.
#[must_use]
pub fn run_guarded(options: &Options, tape: Rng, keep_tail: bool) -> Report {
    guarded(options, || run_tape(options, tape, keep_tail))
}

fn guarded(options: &Options, run: impl FnOnce() -> Report) -> Report {
    // Whatever the run held is gone with it: nothing half-done is left to be seen.
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let blind = options.blind == Some(Check::NoPanic);
        let failure = Failure { check: Check::NoPanic, what: message(&*payload) };
        Report {
            options: *options,
            failed: (!blind).then_some(failure),
            events: 0,
            virtual_ms: 0,
            payload_bytes: 0,
            counts: Counts::default(),
            faults: BTreeMap::new(),
            nodes: Vec::new(),
            needed: 0,
            air: AirTotals::default(),
            trace: 0,
            tail: Vec::new(),
            drawn: options.tape_bytes.min(DRAWN_BYTES),
            made: BTreeMap::new(),
            timeline: Timeline::default(),
        }
    })
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a word"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let report = guarded(&Options::swarm(1), || panic!("no room for {}", 3));
        let failed = report.failed.unwrap();
        assert_eq!((failed.check, failed.what.as_str()), (Check::NoPanic, "panicked: no room for 3"));
        let blind = Options { blind: Some(Check::NoPanic), ..Options::swarm(1) };
        assert_eq!(guarded(&blind, || panic!("x")).failed, None);
    }
}
