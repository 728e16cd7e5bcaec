//! One system call fails, once or from then on: nothing that was acknowledged is lost, what is said has a code, and
//! the next start goes on. All calls of each scenario with `ROPEWAY_LONG=1`, else a sample.

use std::process::Output;

use ropeway_tests::process::said;
use ropeway_tests::strace::{self, Call};

use crate::scenario::{ALL, Scenario, Stage};

/// Calls of a scenario that fail.
const FAILURES: usize = 40;

#[test]
fn an_input_or_output_error_at_any_system_call_costs_nothing_that_was_acknowledged() {
    if strace::available() {
        ALL.iter().for_each(|s| fail_every_call(s, "EIO", Call::about_files));
    }
}

#[test]
fn a_full_disk_at_any_system_call_costs_nothing_that_was_acknowledged() {
    if strace::available() {
        ALL.iter().for_each(|s| fail_every_call(s, "ENOSPC", |c| c.about_files() && c.changes()));
    }
}

#[test]
fn a_disk_that_fails_for_good_from_any_system_call_on_costs_nothing_that_was_acknowledged() {
    if strace::available() {
        ALL.iter().for_each(|s| fail_every_call(s, "EIO and all after it", Call::about_files));
    }
}

#[test]
fn a_system_call_that_was_interrupted_is_made_again_or_refused() {
    if strace::available() {
        ALL.iter().for_each(|s| fail_every_call(s, "EINTR", Call::about_files));
    }
}

fn fail_every_call(scenario: &Scenario, error: &str, wanted: fn(&Call) -> bool) {
    let stage = Stage::new(scenario);
    let all: Vec<Call> = stage.record().into_iter().filter(wanted).collect();
    let (found, wanted) = (all.len(), strace::sample(all, FAILURES));
    let mut refused = 0;
    for call in &wanted {
        stage.reset();
        let when = format!("{}, {error} at {} {}: {}", scenario.name, call.name, call.nth, call.line);
        let step = stage.step(stage.held);
        let mut disturbed = match error.split_once(" and all after it") {
            Some((errno, _)) => call.inject_from(&step, &format!("error={errno}")),
            None => call.inject(&step, &format!("error={error}")),
        };
        let output = disturbed.output().unwrap();
        // A program that can write nothing can say nothing.
        let mute = error.contains("all after") && call.name == "write";
        assert_said_well(&output, mute, &when);
        refused += usize::from(!output.status.success());
        // What could not be read for a moment was not there for that start, and it wrote elsewhere.
        let clean = call.changes();
        let held = stage.check(stage.held, &output, clean, &when);
        stage.goes_on(held, clean, &when);
    }
    println!("{}: {error} at {} of {found} system calls, {refused} refused", scenario.name, wanted.len());
}

/// It ended well, or with a code and no panic.
fn assert_said_well(output: &Output, mute: bool, when: &str) {
    let text = said(output);
    assert!(!text.contains("panicked"), "{when}: {text}");
    let coded =
        text.as_bytes().windows(5).any(|w| w[0] == b'R' && w[1..4].iter().all(u8::is_ascii_digit) && w[4] == b' ');
    assert!(output.status.success() || output.status.code() == Some(1) && (coded || mute), "{when}: {text}");
}
