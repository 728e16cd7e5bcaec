//! What is done to a log while something goes wrong. A new scenario takes three lines in [`ALL`].

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ropeway_std::{DataDir, keygen};
use ropeway_tests::mounts::scratch;
use ropeway_tests::process::{ropeway, said};
use ropeway_tests::strace::{Call, recorded, recording};
use ropeway_tests::{name, numbered};

/// A state of a log, and a command that meets it. Words of a step: the program (`work` is the helper
/// `ropeway-work`, `ropeway` the real one), then its arguments. `DIR` stands for the data directory,
/// `FROM` for the number of the first event that the log does not hold, `EVENTS:COUNT:BYTES` for a
/// file with that many events from there on, a line each.
pub(crate) struct Scenario {
    /// For messages.
    pub(crate) name: &'static str,
    /// What makes the state, undisturbed.
    pub(crate) before: &'static [&'static str],
    /// What is disturbed.
    pub(crate) step: &'static str,
    /// How many events it may have written that it has not acknowledged yet.
    pub(crate) in_flight: u64,
}

pub(crate) const ALL: &[Scenario] = &[
    Scenario { name: "a first start", before: &[], step: "work write DIR FROM 2 3 300", in_flight: 3 },
    Scenario {
        name: "appending",
        before: &["work write DIR FROM 2 3 300"],
        step: "work write DIR FROM 2 3 300",
        in_flight: 3,
    },
    Scenario {
        name: "rotating",
        before: &["work write DIR FROM 2 3 300"],
        step: "work write DIR FROM 9 5 900",
        in_flight: 5,
    },
    Scenario {
        name: "opening after a torn write",
        before: &["work write DIR FROM 3 3 300", "work tear DIR"],
        step: "work write DIR FROM 2 3 300",
        in_flight: 3,
    },
    Scenario {
        name: "removing old segments",
        before: &["work write DIR FROM 14 5 900", "work keep DIR"],
        step: "work expire DIR FROM 1 3 300",
        in_flight: 3,
    },
    Scenario {
        name: "removing old segments once more",
        before: &["work write DIR FROM 9 5 900", "work keep DIR", "work expire DIR FROM 9 5 900", "work keep DIR"],
        step: "work expire DIR FROM 1 3 300",
        in_flight: 3,
    },
    Scenario {
        name: "pushing several groups",
        before: &["ropeway push --data-dir DIR --ndjson EVENTS:3:100"],
        step: "ropeway push --data-dir DIR --ndjson EVENTS:240:4000",
        in_flight: 240,
    },
];

/// A scenario's files.
pub(crate) struct Stage {
    home: tempfile::TempDir,
    step: &'static str,
    in_flight: u64,
    /// Events that the log holds before the step.
    pub(crate) held: u64,
}

impl Stage {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let home = scratch();
        let mut stage = Self { home, step: scenario.step, in_flight: scenario.in_flight, held: 0 };
        keygen::init_node(&stage.dir(), name("clinic_a")).unwrap();
        for before in scenario.before {
            let output = stage.command(before, stage.held).output().unwrap();
            assert!(output.status.success(), "{before}: {}", said(&output));
            stage.held = numbered::held(&stage.dir()).unwrap().count;
        }
        copy_files(stage.dir().root(), &stage.home.path().join("kept"));
        stage
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> DataDir {
        DataDir::new(self.home.path().join("node"))
    }

    fn command(&self, step: &str, held: u64) -> Command {
        let mut words = step.split(' ');
        let mut command = match words.next() {
            Some("work") => Command::new(env!("CARGO_BIN_EXE_ropeway-work")),
            _ => ropeway([] as [&str; 0]),
        };
        for word in words {
            match word.split(':').collect::<Vec<_>>()[..] {
                ["DIR"] => command.arg(self.dir().root()),
                ["FROM"] => command.arg((held + 1).to_string()),
                ["EVENTS", count, bytes] => {
                    command.arg(self.events(held, count.parse().unwrap(), bytes.parse().unwrap()))
                }
                _ => command.arg(word),
            };
        }
        command
    }

    fn events(&self, held: u64, count: u64, bytes: usize) -> PathBuf {
        let path = self.home.path().join("events");
        let lines = (held + 1..).take(count as usize).flat_map(|n| {
            let mut line = numbered::payload(n, bytes);
            line.push(b'\n');
            line
        });
        fs::write(&path, lines.collect::<Vec<u8>>()).unwrap();
        path
    }

    /// The step, on a log that holds so many events.
    pub(crate) fn step(&self, held: u64) -> Command {
        self.command(self.step, held)
    }

    /// Runs the step to its end; its system calls.
    pub(crate) fn record(&self) -> Vec<Call> {
        self.reset();
        let trace = self.home.path().join("trace");
        let output = recording(&self.step(self.held), &trace).output().unwrap();
        assert!(output.status.success(), "{}: {}", self.step, said(&output));
        let held = numbered::held(&self.dir()).unwrap();
        assert!(held.clean && held.count > self.held, "{}: {held:?}", self.step);
        assert_eq!(held.expired > 0, self.step.starts_with("work expire"), "{}: {held:?}", self.step);
        recorded(&trace, self.dir().root())
    }

    /// Puts the files back as they were before the step. The folders stay: a node notices by their
    /// inodes that it was copied.
    pub(crate) fn reset(&self) {
        remove_files(self.dir().root());
        copy_files(&self.home.path().join("kept"), self.dir().root());
    }

    /// Checks that a log of `before` events holds those, what a run of the step has acknowledged and at
    /// most one more group; what it holds. `clean`: nothing may look damaged.
    pub(crate) fn check(&self, before: u64, output: &Output, clean: bool, when: &str) -> u64 {
        let held = numbered::held(&self.dir()).unwrap_or_else(|e| panic!("{when}: {e}; {}", said(output)));
        let text = String::from_utf8_lossy(&output.stdout);
        let told = text.lines().filter_map(|l| l.strip_prefix("durable ")?.parse().ok()).max();
        let whole = self.step.starts_with("ropeway push") && output.status.success();
        let certain = told.unwrap_or(if whole { before + self.in_flight } else { before });
        // A run that ended well and whose words were lost has perhaps done all of it.
        let mute = told.is_none() && output.status.success();
        let more = if mute { u64::from(u32::MAX) } else { self.in_flight };
        let possible = certain..=certain + if whole { 0 } else { more };
        assert!(possible.contains(&held.count), "{when}: {held:?}, not {possible:?}; {}", said(output));
        assert!(held.clean || !clean, "{when}: {held:?}; {}", said(output));
        held.count
    }

    /// Checks that the log can be opened and written to, and that this costs nothing.
    pub(crate) fn goes_on(&self, held: u64, clean: bool, when: &str) {
        let mut node = numbered::open(&self.dir()).unwrap_or_else(|e| panic!("{when}, then open: {e}"));
        numbered::write(&mut node, held + 1, 2, 100).unwrap_or_else(|e| panic!("{when}, then write: {e}"));
        drop(node);
        let after = numbered::held(&self.dir()).unwrap();
        assert!(after.count == held + 2 && (after.clean || !clean), "{when}: {held} events, then {after:?}");
    }
}

pub(crate) fn remove_files(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { remove_files(&path) } else { fs::remove_file(&path).unwrap() }
    }
}

/// Folders that are there already stay as they are.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    if !to.exists() {
        fs::create_dir(to).unwrap();
        fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    }
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_files(&path, &to);
        } else if !entry.file_type().unwrap().is_socket() {
            fs::copy(&path, &to).unwrap();
        }
    }
}
