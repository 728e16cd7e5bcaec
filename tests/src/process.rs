//! The real program in processes of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

/// Path of the `ropeway` program, built with this test's profile if it is not there yet.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // This test is target/PROFILE/deps/all-HASH; the program is target/PROFILE/ropeway.
        let test = std::env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        let profile = match folder.file_name().and_then(|n| n.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        if let Some(cargo) = std::env::var_os("CARGO") {
            let mut build = Command::new(cargo);
            build.args(["build", "--quiet", "-p", "ropeway-mio", "--bin", "ropeway", "--profile", profile]);
            build.arg("--target-dir").arg(folder.parent().unwrap());
            build.current_dir(env!("CARGO_MANIFEST_DIR"));
            // What cargo says about this test's package is no business of the build: build scripts
            // that look at it would run again each time.
            for (key, _) in std::env::vars_os() {
                let known = key.to_string_lossy();
                if known.starts_with("CARGO_PKG_") || known.starts_with("CARGO_MANIFEST_") {
                    build.env_remove(&key);
                }
            }
            assert!(build.status().unwrap().success(), "ropeway does not build");
        }
        folder.join("ropeway")
    })
}

/// The program with these arguments, not yet started: no input, output and errors collected.
#[must_use]
pub fn ropeway<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program());
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.env("RUST_LOG", "error");
    command
}

/// Runs a verb on a directory: `ropeway VERB --data-dir DIR ...`.
#[must_use]
pub fn verb(verb: &str, dir: &Path, more: &[&str]) -> Command {
    let mut command = ropeway([verb]);
    command.arg("--data-dir").arg(dir).args(more);
    command
}

/// Runs a verb on a directory to its end.
#[must_use]
pub fn run(v: &str, dir: &Path, more: &[&str]) -> Output {
    verb(v, dir, more).output().unwrap()
}

/// What a verb prints for programs; fails unless it succeeds.
#[allow(clippy::must_use_candidate, reason = "most verbs are run for what they do")]
pub fn json(v: &str, dir: &Path, more: &[&str]) -> serde_json::Value {
    let output = run(v, dir, &[more, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The same command under other programs.
pub(crate) fn under(wrapper: &mut Command, command: &Command) {
    wrapper.arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => wrapper.env(key, value),
            None => wrapper.env_remove(key),
        };
    }
    wrapper.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
}

/// The same command where no file can grow beyond `bytes`: a write across that is cut short, one behind it
/// fails.
#[must_use]
pub fn shorter_files(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("env");
    limited.arg("--ignore-signal=XFSZ").arg("prlimit").arg(format!("--fsize={bytes}")).arg("--");
    under(&mut limited, command);
    limited
}

/// The same command with so many bytes of address space, its own code and stack included.
#[must_use]
pub fn less_memory(command: &Command, bytes: u64) -> Command {
    let mut limited = Command::new("prlimit");
    limited.arg(format!("--as={bytes}")).arg("--");
    under(&mut limited, command);
    limited
}

/// Runs `ropeway verify` on a directory and fails unless it is clean.
pub fn assert_clean(dir: &Path, when: &str) {
    let output = verb("verify", dir, &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{when}: {}", said(&output));
}

/// What a process has printed, for a failed test.
#[must_use]
pub fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// `ropeway serve` in a process. Dropping it kills it with SIGKILL.
#[derive(Debug)]
pub struct Hub {
    /// The process.
    pub child: Child,
    /// Where it listens: HOST:PORT.
    pub address: String,
}

impl Hub {
    /// Serves `dir` on a free port; fails if it does not begin to listen.
    #[must_use]
    pub fn start(dir: &Path, when: &str) -> Self {
        Self::start_with(dir, &[], when)
    }

    /// As [`Hub::start`], with other arguments too.
    #[must_use]
    pub fn start_with(dir: &Path, more: &[&str], when: &str) -> Self {
        let args = [&["--bind", "127.0.0.1:0"], more].concat();
        let mut child = verb("serve", dir, &args).stderr(Stdio::inherit()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ");
        let address = address.unwrap_or_else(|| panic!("{when}: the hub does not start: {line:?}")).to_owned();
        Self { child, address }
    }

    /// Sends it SIGTERM and waits; the exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
