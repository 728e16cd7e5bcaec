//! `ropeway` as a process of its own, and what the system tells of it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ropeway_std::DataDir;
use serde_json::Value;

use crate::Result;

/// A process. Dropping it kills it.
pub(super) struct Process {
    child: Child,
}

/// The program beside this one, or this one, which can do the same; and whether it is the former.
pub(super) fn program() -> Result<(PathBuf, bool)> {
    let own = std::env::current_exe()?;
    let beside = own.with_file_name("ropeway");
    Ok(if beside.is_file() { (beside, true) } else { (own, false) })
}

impl Process {
    /// Starts it with these arguments, a directory, and `--json`.
    pub(super) fn start(args: &[&str], dir: &DataDir, output: Stdio) -> Result<Self> {
        let (program, is_beside) = program()?;
        let mut command = Command::new(program);
        command.args((!is_beside).then_some("ropeway")).args(args).arg("--data-dir").arg(dir.root()).arg("--json");
        command.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        Ok(Self { child: command.spawn()? })
    }

    /// Whether it has ended; an error if it did not end well.
    pub(super) fn has_ended(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => Err(format!("`ropeway` ended with {status}").into()),
            status => Ok(status.is_some()),
        }
    }

    /// What all its threads have run, in user and system mode.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let mut ns = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            ns += text.split(' ').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(ns))
    }

    /// The most memory that it has had so far, in KiB; `None` once it has ended.
    pub(super) fn peak_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A hub at work.
pub(super) struct Serving {
    pub(super) process: Process,
    address: String,
}

impl Serving {
    /// Starts it, with more arguments, on a port that the system chooses.
    pub(super) fn start(dir: &DataDir, more: &[&str]) -> Result<Self> {
        let mut process = Process::start(
            &[&["serve", "--bind", "127.0.0.1:0", "--policy", "own"], more].concat(),
            dir,
            Stdio::piped(),
        )?;
        let mut line = String::new();
        let output = process.child.stdout.take().ok_or("no output of `serve`")?;
        BufReader::new(output).read_line(&mut line)?;
        let said: Value = serde_json::from_str(&line).map_err(|_| format!("`serve` does not listen: {line}"))?;
        let address = said["listening"].as_str().ok_or("`serve` does not listen")?.to_owned();
        Ok(Self { process, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}
