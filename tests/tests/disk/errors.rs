//! One system call fails, once: nothing that was acknowledged is lost, what is said has a code, and
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

fn fail_every_call(scenario: &Scenario, errno: &str, wanted: fn(&Call) -> bool) {
    let stage = Stage::new(scenario);
    let all: Vec<Call> = stage.record().into_iter().filter(wanted).collect();
    let (found, wanted) = (all.len(), strace::sample(all, FAILURES));
    let mut refused = 0;
    for call in &wanted {
        stage.reset();
        let when = format!("{}, {errno} at {} {}: {}", scenario.name, call.name, call.nth, call.line);
        let output = call.inject(&stage.step(stage.held), &format!("error={errno}")).output().unwrap();
        assert_said_well(&output, &when);
        refused += usize::from(!output.status.success());
        // What could not be read for a moment was not there for that start, and it wrote elsewhere.
        let clean = call.changes();
        let held = stage.check(stage.held, &output, clean, &when);
        stage.goes_on(held, clean, &when);
    }
    println!("{}: {errno} at {} of {found} system calls, {refused} refused", scenario.name, wanted.len());
}

/// It ended well, or with a code and no panic.
fn assert_said_well(output: &Output, when: &str) {
    let text = said(output);
    assert!(!text.contains("panicked"), "{when}: {text}");
    let coded =
        text.as_bytes().windows(5).any(|w| w[0] == b'R' && w[1..4].iter().all(u8::is_ascii_digit) && w[4] == b' ');
    assert!(output.status.success() || output.status.code() == Some(1) && coded, "{when}: {text}");
}
