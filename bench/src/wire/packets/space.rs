//! Places for the two ends: network namespaces with a TUN device each.
//!
//! A namespace has no name: it lives as long as a process in it that waits for the end of its input, which is ours.
//! However this program ends, those end with it, and with them go namespaces and devices.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use smoltcp::phy::{Medium, TunTapInterface};

use crate::Result;

/// What clinics and hubs have by default. Where the system does not let a namespace choose it, Reno: the two differ
/// only where windows are larger than a thin link's.
const CONGESTION_CONTROLS: [&str; 2] = ["cubic", "reno"];

/// A network namespace.
#[derive(Debug)]
pub(super) struct Space {
    holder: Child,
    _input: Option<ChildStdin>,
}

impl Space {
    /// A new one, with nothing in it but `lo`.
    pub(super) fn new() -> Result<Self> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", "echo ready && exec cat >/dev/null"]);
        unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = unshare.spawn().map_err(|e| format!("unshare: {e}"))?;
        let input = holder.stdin.take();
        let mut said = String::new();
        if let Some(output) = holder.stdout.take() {
            BufReader::new(output).read_line(&mut said)?;
        }
        let space = Self { holder, _input: input };
        if said.trim() != "ready" {
            return Err("a network namespace cannot be made (unshare --net)".into());
        }
        run(space.enter("ip").args(["link", "set", "lo", "up"]))?;
        Ok(space)
    }

    /// A program that runs in it.
    pub(super) fn enter(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id())).arg("--").arg(program);
        command
    }

    /// Chooses the congestion control of its connections; its name.
    pub(super) fn choose_congestion_control(&self) -> Result<&'static str> {
        for name in CONGESTION_CONTROLS {
            let set = format!("echo {name} >/proc/sys/net/ipv4/tcp_congestion_control");
            if run(self.enter("sh").args(["-c", &set])).is_ok() {
                return Ok(name);
            }
        }
        Err(format!("the system knows none of {CONGESTION_CONTROLS:?}").into())
    }

    /// Makes a TUN device in it that speaks from `address` with `peer`; what is read from it are the packets that
    /// the namespace sends.
    pub(super) fn device(&self, address: &str, peer: &str) -> Result<File> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("rw{:x}.{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let made = TunTapInterface::new(&name, Medium::Ip).map_err(|e| format!("a TUN device: {e}"))?;
        // A copy that other programs do not inherit, and whose errors are values.
        let own = pidfd_open(getpid(), PidfdFlags::empty())?;
        let device = File::from(pidfd_getfd(own, made.as_raw_fd(), PidfdGetfdFlags::empty())?);
        drop(made);
        run(Command::new("ip").args(["link", "set", &name, "netns", &self.holder.id().to_string()]))?;
        run(self.enter("ip").args(["address", "add", address, "peer", peer, "dev", &name]))?;
        run(self.enter("ip").args(["link", "set", &name, "up"]))?;
        Ok(device)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn run(command: &mut Command) -> Result<()> {
    let what = format!("{command:?}").replace('"', "");
    let output = command.stdin(Stdio::null()).output().map_err(|e| format!("{what}: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Whether there can be such places here: the congestion control that they have, or a sentence.
pub(super) fn try_out() -> std::result::Result<&'static str, String> {
    let tried = || -> Result<&'static str> {
        let space = Space::new()?;
        space.device("192.0.2.1", "192.0.2.2")?;
        space.choose_congestion_control()
    };
    tried().map_err(|e| {
        format!("the part `packets` is skipped: it needs root, /dev/net/tun, iproute2 and util-linux; here: {e}")
    })
}
