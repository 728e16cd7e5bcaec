//! What is done to a log while something goes wrong. A new scenario takes three lines in [`ALL`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use ropeway_std::keyring::Passphrase;
use ropeway_std::{DataDir, keygen};
use ropeway_tests::process::{ropeway, said, verb};
use ropeway_tests::strace::{Call, recorded, recording};
use ropeway_tests::{name, numbered};

use crate::disturb::Subject;

/// Of every directory that has one, and what `rekey --to-passphrase` is told.
pub(crate) const PASSPHRASE: &str = "yak butter tea at noon";

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
    /// How many events it may have written that it has not acknowledged yet; 0 if it writes none.
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
    Scenario { name: "sealing", before: &["work write DIR FROM 12 5 900"], step: "work seal DIR", in_flight: 0 },
    Scenario {
        name: "sealing what follows a checkpoint",
        before: &["work write DIR FROM 7 5 900", "work seal DIR", "work write DIR FROM 9 5 900"],
        step: "work seal DIR",
        in_flight: 0,
    },
    Scenario {
        name: "rotating over sealed segments",
        before: &["work write DIR FROM 9 5 900", "work seal DIR"],
        step: "work write DIR FROM 12 5 900",
        in_flight: 5,
    },
    Scenario {
        name: "opening after a kill in the middle of everything",
        before: &["work write DIR FROM 9 5 900", "work litter DIR"],
        step: "work write DIR FROM 2 3 300",
        in_flight: 3,
    },
    Scenario {
        name: "another key",
        before: &["work write DIR FROM 4 5 900", "work seal DIR"],
        step: "ropeway rekey --data-dir DIR",
        in_flight: 0,
    },
    Scenario {
        name: "another data key",
        before: &["work write DIR FROM 4 5 900", "work seal DIR"],
        step: "ropeway rekey --data-dir DIR --data",
        in_flight: 0,
    },
    Scenario {
        name: "a passphrase in the place of a key file",
        before: &["work write DIR FROM 2 3 300"],
        step: "ropeway rekey --data-dir DIR --to-passphrase",
        in_flight: 0,
    },
    Scenario {
        name: "a key file in the place of a passphrase",
        before: &["work write DIR FROM 2 3 300", "ropeway rekey --data-dir DIR --to-passphrase"],
        step: "ropeway rekey --data-dir DIR --to-file",
        in_flight: 0,
    },
    Scenario {
        name: "writing under a new data key",
        before: &["work write DIR FROM 4 5 900", "ropeway rekey --data-dir DIR --data"],
        step: "work write DIR FROM 6 5 900",
        in_flight: 5,
    },
];

/// Whether this scenario is to be tried: `ROPEWAY_SCENARIO` is a part of its name, or not set.
pub(crate) fn wanted(name: &str) -> bool {
    std::env::var("ROPEWAY_SCENARIO").map_or(true, |part| name.contains(&part))
}

/// A scenario's files.
pub(crate) struct Stage {
    home: tempfile::TempDir,
    name: &'static str,
    step: &'static str,
    in_flight: u64,
    /// Events that the log holds before the step.
    pub(crate) held: u64,
}

impl Stage {
    pub(crate) fn new(home: tempfile::TempDir, scenario: &Scenario) -> Self {
        let Scenario { name: called, step, in_flight, .. } = *scenario;
        let mut stage = Self { home, name: called, step, in_flight, held: 0 };
        keygen::init_node(&stage.dir(), name("clinic_a")).unwrap();
        for before in scenario.before {
            let output = stage.words(before, stage.held).output().unwrap();
            assert!(output.status.success(), "{before}: {}", said(&output));
            stage.held = numbered::held(&stage.dir()).unwrap().count;
        }
        copy_files(stage.dir().root(), &stage.home.path().join("kept"));
        stage
    }

    /// The data directory.
    pub(crate) fn dir(&self) -> DataDir {
        let dir = DataDir::new(self.home.path().join("node"));
        dir.with_passphrase(Arc::new(|_| Ok(Passphrase::new(PASSPHRASE.to_owned().into()))))
    }

    fn words(&self, step: &str, held: u64) -> Command {
        let mut words = step.split(' ');
        let mut command = match words.next() {
            Some("work") => Command::new(env!("CARGO_BIN_EXE_ropeway-work")),
            _ => ropeway([] as [&str; 0]),
        };
        command.env("ROPEWAY_PASSPHRASE", PASSPHRASE).env("ROPEWAY_NEW_PASSPHRASE", PASSPHRASE);
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
        self.words(self.step, held)
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
        let mute = told.is_none() && output.status.success() && self.in_flight > 0;
        let more = if mute { u64::from(u32::MAX) } else { self.in_flight };
        let possible = certain..=certain + if whole { 0 } else { more };
        assert!(possible.contains(&held.count), "{when}: {held:?}, not {possible:?}; {}", said(output));
        assert!(held.clean || !clean, "{when}: {held:?}; {}", said(output));
        held.count
    }

    /// Checks that the log can be opened and written to, that this costs nothing, and that nothing is left
    /// of what was interrupted.
    pub(crate) fn goes_on(&self, held: u64, clean: bool, when: &str) {
        if self.step.starts_with("ropeway rekey") {
            self.ends_rekey(when);
        }
        let mut node = numbered::open(&self.dir()).unwrap_or_else(|e| panic!("{when}, then open: {e}"));
        assert_no_old_litter(self.dir().root(), when);
        numbered::write(&mut node, held + 1, 2, 100).unwrap_or_else(|e| panic!("{when}, then write: {e}"));
        assert!(node.maintain(Duration::from_secs(60)), "{when}, then seal");
        drop(node);
        assert_no_litter(self.dir().root(), when);
        let after = numbered::held(&self.dir()).unwrap();
        assert!(after.count == held + 2 && (after.clean || !clean), "{when}: {held} events, then {after:?}");
        if clean {
            let mut verify = verb("verify", self.dir().root(), &[]);
            let output = verify.env("ROPEWAY_PASSPHRASE", PASSPHRASE).output().unwrap();
            assert_eq!(output.status.code(), Some(0), "{when}, then verify: {}", said(&output));
        }
    }

    /// The same rekey once more comes to its end, and no key of before is left anywhere.
    fn ends_rekey(&self, when: &str) {
        let keys = self.dir().root().join("keys");
        let before = keys_in(&keys);
        let output = self.step(self.held).output().unwrap();
        assert!(output.status.success(), "{when}, then the same again: {}", said(&output));
        assert!(!self.dir().keyring().unwrap().is_unfinished(), "{when}");
        let after = keys_in(&keys);
        if self.step.ends_with("--data") {
            return;
        }
        assert!(before.is_disjoint(&after), "{when}: a key of before still stands in {}", keys.display());
        let in_file = !self.step.ends_with("--to-passphrase");
        assert_eq!(after.len(), usize::from(in_file), "{when}: the keys in files");
    }
}

impl Subject for Stage {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// Puts the files back as they were before the step. The folders stay: a node notices by their
    /// inodes that it was copied.
    fn reset(&self) {
        remove_files(self.dir().root());
        copy_files(&self.home.path().join("kept"), self.dir().root());
    }

    fn command(&self) -> Command {
        self.step(self.held)
    }

    fn judge(&self, output: &Output, clean: bool, when: &str) {
        let held = self.check(self.held, output, clean, when);
        self.goes_on(held, clean, when);
    }

    fn record(&self) -> Vec<Call> {
        self.reset();
        let before = files_in(self.dir().root());
        let trace = self.home.path().join("trace");
        let output = recording(&self.command(), &trace).output().unwrap();
        assert!(output.status.success(), "{}: {}", self.step, said(&output));
        let held = numbered::held(&self.dir()).unwrap();
        let more = held.count > self.held;
        assert!(held.clean && more == (self.in_flight > 0), "{}: {held:?}", self.step);
        assert!(files_in(self.dir().root()) != before, "{}: it does nothing", self.step);
        assert_eq!(held.expired > 0, self.step.starts_with("work expire"), "{}: {held:?}", self.step);
        if self.step.starts_with("work seal") {
            let names: Vec<String> = files_in(&self.dir().log()).into_keys().map(|p| p.display().to_string()).collect();
            let all = |end: &str| names.iter().filter(|n| n.ends_with(end)).count();
            assert!(all(".sealed") > 2 && all(".log") <= 2 && all("checkpoint-b") == 1, "{names:?}");
        }
        self.goes_on(held.count, true, self.name);
        recorded(&trace, self.dir().root())
    }
}

/// Nothing has the name of a file that is being written.
pub(crate) fn assert_no_litter(root: &Path, when: &str) {
    assert_eq!(litter(root), Vec::<PathBuf>::new(), "{when}");
}

/// As [`assert_no_litter`], while a node is open: it may be sealing.
pub(crate) fn assert_no_old_litter(root: &Path, when: &str) {
    let mut left = litter(root);
    left.retain(|path| !path.ends_with("unfinished.tmp"));
    assert_eq!(left, Vec::<PathBuf>::new(), "{when}");
}

fn litter(root: &Path) -> Vec<PathBuf> {
    let is = |p: &PathBuf| [".tmp", ".restoring"].iter().any(|end| p.to_string_lossy().contains(end));
    files_in(root).into_keys().filter(is).collect()
}

/// All keys in hexadecimal that stand in the files of a folder.
pub(crate) fn keys_in(folder: &Path) -> BTreeSet<String> {
    let texts = files_in(folder).into_values().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let words = |text: String| text.split(|c: char| !c.is_ascii_hexdigit()).map(str::to_owned).collect::<Vec<_>>();
    texts.flat_map(words).filter(|w| w.len() == 64).collect()
}

/// Every file in a folder and below, but the lock, by its path there.
pub(crate) fn files_in(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut all, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if entry.file_type().unwrap().is_file() && entry.file_name() != "lock" {
                all.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    all
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
