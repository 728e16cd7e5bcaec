//! A machine without enough of something: memory, random numbers.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::scratch;
use ropeway_tests::numbered::{held, open, payload, write};
use ropeway_tests::process::{less_memory, said, verb};
use ropeway_tests::{long, name, strace};

use crate::disturb::{Fault, Subject, every_call};
use crate::errors::each;
use crate::scenario::{ALL, Stage, files_in};

/// Enough for every verb, however long the log is.
const ENOUGH_BYTES: u64 = 64 << 20;

#[test]
fn a_process_that_gets_no_memory_at_any_moment_costs_nothing_that_was_acknowledged() {
    let names = ["appending", "rotating over sealed segments", "sealing", "another key"];
    for scenario in ALL.iter().filter(|s| names.contains(&s.name)) {
        let stage = Stage::new(scratch(), scenario);
        let (mut starved, mut ended_well) = (0, 0);
        // By the size of the program there is a place from which on it starts, and one from which on all is well.
        for kib in (4096..16384).step_by(if long() { 64 } else { 1024 }) {
            stage.reset();
            let when = format!("{}, with {kib} KiB of memory", scenario.name);
            let output = less_memory(&stage.command(), kib << 10).output().unwrap();
            assert!(!said(&output).contains("panicked"), "{when}: {}", said(&output));
            ended_well += u32::from(output.status.success());
            starved += u32::from(!output.status.success());
            stage.judge(&output, true, &when);
        }
        println!("{}: {starved} times not enough memory, {ended_well} times enough", scenario.name);
        assert!(starved > 0 && ended_well > 0, "{}: {starved} {ended_well}", scenario.name);
    }
}

#[test]
fn a_log_of_any_length_is_written_read_and_checked_in_the_same_memory() {
    let home = scratch();
    let dir = DataDir::new(home.path().join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let lines: Vec<u8> = (1..=25_000u64).flat_map(|n| [payload(n, 4000), b"\n".to_vec()].concat()).collect();
    fs::write(home.path().join("events"), lines).unwrap();
    let events = home.path().join("events");
    let verbs: [(&str, &[&str]); 5] = [
        ("push", &["--ndjson", events.to_str().unwrap()]),
        ("push", &["--payload", "x"]),
        ("status", &[]),
        ("verify", &[]),
        ("pull", &["--from", "24990"]),
    ];
    for (v, more) in verbs {
        let output = less_memory(&verb(v, dir.root(), more), ENOUGH_BYTES).output().unwrap();
        assert!(output.status.success(), "{v}: {}", said(&output));
    }
}

#[test]
fn lengths_that_lie_are_refused_without_the_memory_that_they_ask_for() {
    let home = scratch();
    let dir = DataDir::new(home.path().join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let mut node = open(&dir).unwrap();
    for group in 0..8 {
        write(&mut node, group * 5 + 1, 5, 900).unwrap();
    }
    node.maintain(std::time::Duration::from_secs(60));
    drop(node);
    let lies = |name: &Path, len: usize| -> Vec<usize> {
        match name.extension().is_some_and(|e| e == "log") {
            // The words of frames stand where a page begins.
            true => (4096..len).step_by(4096).collect(),
            false => (176..len - 4).step_by(if long() { 16 } else { 496 }).collect(),
        }
    };
    let (good, mut tried) = (files_in(&dir.log()), 0);
    let put_back = || good.iter().for_each(|(name, bytes)| fs::write(dir.log().join(name), bytes).unwrap());
    for (name, bytes) in &good {
        for at in lies(name, bytes.len()) {
            let mut bad = bytes.clone();
            bad[at..at + 3].copy_from_slice(&[0xff; 3]);
            fs::write(dir.log().join(name), &bad).unwrap();
            for v in ["status", "verify"] {
                let output = less_memory(&verb(v, dir.root(), &[]), ENOUGH_BYTES).output().unwrap();
                assert!(output.status.code().is_some(), "{v}, {} at {at}: {}", name.display(), said(&output));
            }
            tried += 1;
            // A check that finds damage removes the checkpoints.
            put_back();
        }
    }
    println!("{tried} lies");
    assert!(held(&dir).unwrap().clean);
}

#[test]
fn without_random_numbers_every_verb_is_refused_and_changes_nothing_for_worse() {
    if strace::available() {
        each(&scratch, |s| every_call(s, Fault::NoRandom, 8));
    }
}

#[test]
fn a_source_of_random_numbers_that_gives_zeros_at_every_start_repeats_no_salt() {
    if !strace::available() {
        return;
    }
    let home = scratch();
    let dir = DataDir::new(home.path().join("node"));
    keygen::init_node(&dir, name("clinic_a")).unwrap();
    let work = |verb: &str, more: &[&str]| {
        let mut work = Command::new(env!("CARGO_BIN_EXE_ropeway-work"));
        work.arg(verb).arg(dir.root()).args(more);
        work
    };
    // What comes before seeds the standard library's maps.
    let trace = home.path().join("trace");
    assert!(strace::recording(&work("seal", &[]), &trace).output().unwrap().status.success());
    let calls = strace::recorded(&trace, Path::new("/"));
    let is_ours = |c: &&strace::Call| c.name == "getrandom" && c.line.contains(", 32, 0)");
    let first = calls.iter().find(is_ours).unwrap();
    for start in 0..6u64 {
        for work in [work("write", &[&(start * 10 + 1).to_string(), "2", "5", "900"]), work("seal", &[])] {
            // The call is not made: what is to hold the numbers stays as it was, zeros.
            let output = first.answered_from(&work, 32).output().unwrap();
            assert!(output.status.success(), "{}", said(&output));
        }
    }
    let (mut salts, mut headers) = (BTreeSet::new(), 0);
    for entry in fs::read_dir(dir.log()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for page in bytes.chunks(4096).filter(|p| p.starts_with(b"\x89RP")) {
            salts.insert(page[40..72].to_vec());
            headers += 1;
        }
    }
    assert!(headers > 6 && salts.len() == headers, "{headers} headers, {} salts", salts.len());
    let there = held(&dir).unwrap();
    assert!(there.clean && there.count == 60, "{there:?}");
}
