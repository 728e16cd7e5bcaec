//! One system call of a program fails, or is the last thing it does: `strace` with injection.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use crate::process::under;

/// A system call of a program, so that it can be met again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its name.
    pub name: String,
    /// How many of that name come up to this one, itself included.
    pub nth: u32,
    /// As `strace` prints it.
    pub line: String,
}

/// Whether programs can be traced here. Says so if not.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let tried = Command::new("strace").args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "true"]).output();
        let works = tried.as_ref().is_ok_and(|o| o.status.success());
        if !works {
            println!("skipped: there is no strace here, or it may not trace: {tried:?}");
        }
        works
    })
}

/// The same command under `strace` with these options.
fn traced(command: &Command, options: &[&str]) -> Command {
    let mut traced = Command::new("strace");
    traced.arg("-f").args(options);
    under(&mut traced, command);
    traced
}

/// The command, so that its system calls are written to `trace`.
#[must_use]
pub fn recording(command: &Command, trace: &Path) -> Command {
    traced(command, &["-y", "-qq", "-s", "200", "-o", trace.to_str().unwrap()])
}

/// The system calls in `trace`, from the first one on that names `dir`: before that the program was
/// only loaded.
#[must_use]
pub fn recorded(trace: &Path, dir: &Path) -> Vec<Call> {
    calls(&std::fs::read_to_string(trace).unwrap(), dir.to_str().unwrap())
}

fn calls(trace: &str, dir: &str) -> Vec<Call> {
    let (mut counts, mut begun, mut all) = (std::collections::HashMap::new(), false, Vec::new());
    for line in trace.lines() {
        let (pid, rest) = line.split_once(' ').unwrap_or_default();
        let Some((name, _)) = rest.trim_start().split_once('(') else { continue };
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
            continue;
        }
        // Counted by thread, as `strace` does.
        let nth = counts.entry((pid, name)).or_insert(0);
        *nth += 1;
        begun |= name != "execve" && rest.contains(dir);
        if begun {
            all.push(Call { name: name.to_owned(), nth: *nth, line: rest.trim_start().to_owned() });
        }
    }
    all
}

impl Call {
    /// True if it changes something, or makes a change last.
    #[must_use]
    pub fn changes(&self) -> bool {
        const CHANGING: [&str; 14] = [
            "write",
            "pwrite64",
            "writev",
            "fsync",
            "fdatasync",
            "rename",
            "renameat",
            "renameat2",
            "ftruncate",
            "unlink",
            "unlinkat",
            "mkdir",
            "fallocate",
            "fchmod",
        ];
        CHANGING.contains(&self.name.as_str()) || self.name == "openat" && self.line.contains("O_CREAT")
    }

    /// True if it is about a file or a folder, not about the program's own memory and output.
    #[must_use]
    pub fn about_files(&self) -> bool {
        // Not close: no disk fails it, and the standard library takes its failure for a mistake.
        const READING: [&str; 11] = [
            "openat",
            "read",
            "pread64",
            "lseek",
            "statx",
            "fstat",
            "newfstatat",
            "getdents64",
            "flock",
            "fcntl",
            "mmap",
        ];
        let output = ["write(1<", "write(2<"].iter().any(|w| self.line.starts_with(w));
        self.changes() && !output || READING.contains(&self.name.as_str()) && self.line.contains('/')
    }

    /// The command with `what` injected at this call: `signal=KILL`, `error=EIO`.
    #[must_use]
    pub fn inject(&self, command: &Command, what: &str) -> Command {
        self.injected(command, &format!("{what}:when={}", self.nth))
    }

    /// The command, in which this call and each later one of its name is not made and gives `value`.
    #[must_use]
    pub fn answered_from(&self, command: &Command, value: u32) -> Command {
        self.inject_from(command, &format!("retval={value}"))
    }

    /// As [`Call::inject`], and at each later call of the same name.
    #[must_use]
    pub fn inject_from(&self, command: &Command, what: &str) -> Command {
        self.injected(command, &format!("{what}:when={}+", self.nth))
    }

    fn injected(&self, command: &Command, what: &str) -> Command {
        injected(command, &[(&self.name, what.to_owned())])
    }
}

/// The command with `what` injected at the first of `calls` of each name, and at all later ones of it.
#[must_use]
pub fn inject_all<'c>(command: &Command, calls: impl Iterator<Item = &'c Call>, what: &str) -> Command {
    let mut first: Vec<(&str, String)> = Vec::new();
    for call in calls {
        if first.iter().all(|f| f.0 != call.name) {
            first.push((&call.name, format!("{what}:when={}+", call.nth)));
        }
    }
    injected(command, &first)
}

fn injected(command: &Command, at: &[(&str, String)]) -> Command {
    let names: Vec<&str> = at.iter().map(|a| a.0).collect();
    let mut options = vec![format!("trace={}", names.join(","))];
    options.extend(at.iter().map(|(name, what)| format!("inject={name}:{what}")));
    let mut all = vec!["-qq", "-o", "/dev/null"];
    // Quicker, but then `strace` forgets to send signals.
    if !at.iter().any(|(_, what)| what.starts_with("signal=")) {
        all.push("--seccomp-bpf");
    }
    options.iter().for_each(|o| all.extend(["-e", o]));
    traced(command, &all)
}

/// At most `most` of them, evenly spread, those that change something before others; all of them
/// with `ROPEWAY_LONG=1`.
#[must_use]
pub fn sample(calls: Vec<Call>, most: usize) -> Vec<Call> {
    if crate::long() {
        return calls;
    }
    let (changing, other): (Vec<Call>, Vec<Call>) = calls.into_iter().partition(Call::changes);
    let first = spread(changing, most * 3 / 4);
    let rest = spread(other, most - first.len());
    first.into_iter().chain(rest).collect()
}

/// At most `most` of them, evenly spread, the first and the last among them.
fn spread<T>(all: Vec<T>, most: usize) -> Vec<T> {
    let len = all.len();
    if len <= most {
        return all;
    }
    let wanted: Vec<usize> = (0..most).map(|i| i * (len - 1) / (most - 1).max(1)).collect();
    all.into_iter().enumerate().filter(|(i, _)| wanted.binary_search(i).is_ok()).map(|(_, t)| t).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_thread_and_name_from_the_first_that_names_the_directory() {
        let trace = "7 execve(\"/x/node\") = 0\n7 read(3</lib>, \"\", 8) = 8\n7 openat(AT_FDCWD, \"/x/node/lock\", O_RDWR|O_CREAT) = 3\n\
            8 read(9) = 1\n7 read(3</x/node/lock>, \"\", 8) = 0\n7 <... read resumed>) = 0\n7 write(1<pipe>, \"\", 1) = 1\n7 +++ exited\n";
        let all = calls(trace, "/x/node");
        let named: Vec<_> = all.iter().map(|c| (c.name.as_str(), c.nth)).collect();
        assert_eq!(named, [("openat", 1), ("read", 1), ("read", 2), ("write", 1)]);
        assert_eq!(all.iter().map(Call::changes).collect::<Vec<_>>(), [true, false, false, true]);
        assert_eq!(all.iter().map(Call::about_files).collect::<Vec<_>>(), [true, false, true, false]);
    }

    #[test]
    fn a_sample_holds_the_first_and_the_last() {
        assert_eq!(spread((0..100).collect(), 4), [0, 33, 66, 99]);
        assert_eq!(spread(vec![1, 2], 4), [1, 2]);
        assert_eq!(spread((0..9).collect(), 1), [0]);
        assert!(spread(vec![1, 2], 0).is_empty());
    }
}
