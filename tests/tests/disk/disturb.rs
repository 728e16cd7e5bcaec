//! A command that is disturbed at one system call, for each of its system calls.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use ropeway_tests::long;
use ropeway_tests::mounts::Ballast;
use ropeway_tests::process::{said, shorter_files};
use ropeway_tests::strace::{self, Call};

/// A command, and what must hold whatever has become of it.
pub(crate) trait Subject {
    /// For messages.
    fn name(&self) -> String;

    /// The folder of all its files.
    fn home(&self) -> &Path;

    /// Puts everything back as it was before the command.
    fn reset(&self);

    /// The command.
    fn command(&self) -> Command;

    /// Fails unless all is well after a run, and after what an operator would do then. `clean`: nothing may
    /// look damaged.
    fn judge(&self, output: &Output, clean: bool, when: &str);

    /// Runs it undisturbed; its system calls, from the first one on that names one of its files.
    fn record(&self) -> Vec<Call> {
        self.reset();
        let trace = self.home().join("trace");
        let output = strace::recording(&self.command(), &trace).output().unwrap();
        assert!(output.status.success(), "{}: {}", self.name(), said(&output));
        self.judge(&output, true, &format!("{}, undisturbed", self.name()));
        strace::recorded(&trace, self.home())
    }
}

/// What happens at a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process ends.
    Kill,
    /// It fails with this, once.
    Once(&'static str),
    /// It fails with this, and so do all later ones of its name.
    From(&'static str),
    /// From then on everything about files fails: the disk is gone.
    Gone,
    /// The system has no random numbers to give, just then.
    NoRandom,
}

impl Fault {
    fn meets(self, call: &Call) -> bool {
        match self {
            Fault::Kill => true,
            // The standard library takes its own for granted.
            Fault::NoRandom => call.name == "getrandom" && call.line.contains(", 0)"),
            Fault::Once("ENOSPC") => call.about_files() && call.changes(),
            _ => call.about_files(),
        }
    }

    fn inject(self, call: &Call, all: &[Call], command: &Command) -> Command {
        match self {
            Fault::Kill => call.inject(command, "signal=KILL"),
            Fault::NoRandom => call.inject(command, "error=EIO"),
            Fault::Once(errno) => call.inject(command, &format!("error={errno}")),
            Fault::From(errno) => call.inject_from(command, &format!("error={errno}")),
            Fault::Gone => {
                let later = all.iter().skip_while(|c| *c != call).filter(|c| c.about_files() && c.name != "mmap");
                strace::inject_all(command, later, "error=EIO")
            }
        }
    }

    /// What could not be read for a moment was not there for that start, and it wrote elsewhere.
    fn leaves_clean(self, call: &Call) -> bool {
        match self {
            Fault::Kill | Fault::Gone | Fault::NoRandom => true,
            Fault::Once(_) | Fault::From(_) => call.changes(),
        }
    }
}

/// Disturbs the command at each of its system calls that the fault can meet: at `most` of them, unless
/// `ROPEWAY_LONG=1`.
pub(crate) fn every_call(subject: &dyn Subject, fault: Fault, most: usize) {
    let all = subject.record();
    let meets: Vec<Call> = all.iter().filter(|c| fault.meets(c)).cloned().collect();
    let (found, wanted) = (meets.len(), strace::sample(meets, most));
    let (mut ended_well, mut killed) = (0, 0);
    for call in &wanted {
        subject.reset();
        let when = format!("{}, {fault:?} at {} {}: {}", subject.name(), call.name, call.nth, call.line);
        let output = fault.inject(call, &all, &subject.command()).output().unwrap();
        if fault == Fault::Kill {
            // One that finds less to do may end before that call.
            let dead = was_killed(&output);
            assert!(dead || output.status.success(), "{when}: {}", said(&output));
            killed += usize::from(dead);
        } else {
            // A program that can write nothing can say nothing.
            let mute = fault == Fault::Gone || matches!(fault, Fault::From(_)) && call.name == "write";
            assert_said_well(&output, mute, &when);
        }
        ended_well += usize::from(output.status.success());
        subject.judge(&output, fault.leaves_clean(call), &when);
    }
    assert!(fault != Fault::Kill || killed * 10 >= wanted.len() * 9, "{}: {killed} killed", subject.name());
    println!(
        "{}: {fault:?} at {} of {found} system calls, {ended_well} ended well all the same",
        subject.name(),
        wanted.len()
    );
}

/// Runs the command where no file can be longer than so many bytes: what is written beyond is cut short, and
/// the rest fails. Every 256 bytes with `ROPEWAY_LONG=1`.
pub(crate) fn short_at_every_byte(subject: &dyn Subject) {
    let all: Vec<u64> = if long() { (0..26_000).step_by(256).collect() } else { vec![0, 100, 5000, 9000, 24_000] };
    let mut ended_well = 0;
    for &bytes in &all {
        subject.reset();
        let when = format!("{}, with files of {bytes} bytes at most", subject.name());
        let output = shorter_files(&subject.command(), bytes).output().unwrap();
        assert_said_well(&output, false, &when);
        ended_well += usize::from(output.status.success());
        subject.judge(&output, true, &when);
    }
    println!("{}: cut short at {} lengths, {ended_well} ended well all the same", subject.name(), all.len());
}

/// Runs the command on a disk with so many free pages; the subject's files are on that disk. Every number up to
/// 40 with `ROPEWAY_LONG=1`.
pub(crate) fn every_free_page(subject: &dyn Subject, disk: &Path) {
    let all: Vec<u64> = if long() { (0..=40).collect() } else { vec![0, 1, 2, 4, 7] };
    let mut ended_well = 0;
    for &pages in &all {
        subject.reset();
        let when = format!("{}, with {pages} free pages", subject.name());
        let mut command = subject.command();
        let full = Ballast::fill(disk, pages * 4096);
        let output = command.output().unwrap();
        drop(full);
        assert_said_well(&output, false, &when);
        let text = said(&output);
        assert!(output.status.success() || text.contains("R307"), "{when}: {text}");
        ended_well += usize::from(output.status.success());
        subject.judge(&output, true, &when);
    }
    println!("{}: {} numbers of free pages, {ended_well} ended well all the same", subject.name(), all.len());
}

/// Whether SIGKILL has ended it.
pub(crate) fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(9)
}

/// It ended well, or with a code and no panic.
pub(crate) fn assert_said_well(output: &Output, mute: bool, when: &str) {
    let text = said(output);
    assert!(!text.contains("panicked"), "{when}: {text}");
    let coded =
        text.as_bytes().windows(5).any(|w| w[0] == b'R' && w[1..4].iter().all(u8::is_ascii_digit) && w[4] == b' ');
    assert!(output.status.success() || output.status.code() == Some(1) && (coded || mute), "{when}: {text}");
}
