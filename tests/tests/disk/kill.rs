//! SIGKILL at a system call: the log holds what was acknowledged, and perhaps the group that was
//! being written. All calls of each scenario with `ROPEWAY_LONG=1`, else a sample.

use std::process::Output;

use ropeway_tests::mounts::scratch;
use ropeway_tests::process::said;
use ropeway_tests::strace::{self, Call};

use crate::disturb::{Subject, was_killed};
use crate::scenario::{ALL, Scenario, Stage, wanted};

/// Calls of a scenario at which it is killed.
const KILLS: usize = 16;
/// Kills of the next starts, on the same files, after each fourth of them.
const KILLS_AGAIN: usize = 2;

#[test]
fn killed_at_any_system_call_a_log_holds_what_was_acknowledged() {
    if strace::available() {
        ALL.iter().filter(|s| wanted(s.name)).for_each(kill_at_every_call);
    }
}

fn kill_at_every_call(scenario: &Scenario) {
    let stage = Stage::new(scratch(), scenario);
    let all = stage.record();
    let wanted = strace::sample(all.clone(), KILLS);
    let (mut kills, mut killed_first) = (0, 0);
    for (i, call) in wanted.iter().enumerate() {
        stage.reset();
        let when = format!("{}, killed at {} {}: {}", scenario.name, call.name, call.nth, call.line);
        let output = killed(&stage, call, stage.held, &when);
        let mut held = stage.check(stage.held, &output, true, &when);
        killed_first += usize::from(was_killed(&output));
        kills += 1;
        // The next start begins as this one did: opening the log.
        for again in 0..if i % 4 == 0 { KILLS_AGAIN } else { 0 } {
            let call = &all[(i * 7 + again * 13) % all.len()];
            let when = format!("{when}; again at {} {}: {}", call.name, call.nth, call.line);
            let output = killed(&stage, call, held, &when);
            held = stage.check(held, &output, true, &when);
            kills += 1;
        }
        stage.goes_on(held, true, &when);
    }
    assert!(killed_first * 10 >= wanted.len() * 9, "{}: {killed_first} killed", scenario.name);
    println!("{}: {kills} kills, at {} of {} system calls", scenario.name, wanted.len(), all.len());
}

fn killed(stage: &Stage, call: &Call, held: u64, when: &str) -> Output {
    let output = call.inject(&stage.step(held), "signal=KILL").output().unwrap();
    // One that finds less to do may end before that call.
    assert!(was_killed(&output) || output.status.success(), "{when}: {}", said(&output));
    output
}
