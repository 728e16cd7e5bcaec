//! The arguments of every verb, as structs that hold checked values only.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};
use ropeway_core::policy::{Policy, Role};
use ropeway_std::Options;
use ropeway_std::scrub::ScrubRate;

use super::error::EXIT_CODES_HELP;
use super::output::Output;
use super::value::{self, HubAddr};
use crate::demo::profile::Profile;

mod budget;
mod examples;
mod keep;
mod split;
mod usage;
mod views;

pub use budget::BudgetArgs;
pub use keep::{BackupMarkArgs, ExpireArgs, FetchArgs, RetainArgs};
pub use split::{KeygenArgs, NewNode, PushArgs, Source};
pub use usage::{UsageError, parse};
pub use views::{AuditArgs, FilterArgs, RestoreArgs, SnapshotArgs};

/// Encrypted event log and sync for clinics on thin, broken links.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "ropeway",
    version,
    after_help = EXIT_CODES_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: GlobalArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args, PartialEq, Eq)]
pub struct GlobalArgs {
    /// Print JSON on standard output, errors too
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
    /// Print only results, warnings and errors
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub quiet: bool,
    /// Log more while serving; twice for everything
    #[arg(long, short, global = true, action = ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
}

/// The verbs.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Show everything at once: a hub, clinics, a 2G link that breaks, and a verdict
    #[command(after_help = examples::DEMO)]
    Demo(DemoArgs),
    /// Make a hub or a clinic's node in an empty directory
    #[command(after_help = examples::KEYGEN)]
    Keygen(KeygenArgs),
    /// Sign a node's certificate request with the hub's CA
    #[command(after_help = examples::SIGN)]
    Sign(SignArgs),
    /// Be the hub: accept clinics and take their events
    #[command(after_help = examples::SERVE)]
    Serve(ServeArgs),
    /// Append events to this node's log
    #[command(after_help = examples::PUSH)]
    Push(PushArgs),
    /// Exchange events with a hub, then end; or stay connected (--keep)
    #[command(after_help = examples::SYNC)]
    Sync(SyncArgs),
    /// Print events of the log, one JSON object a line
    #[command(after_help = examples::PULL)]
    Pull(PullArgs),
    /// Say who this node is, what its log holds and what the hub has of it
    #[command(after_help = examples::STATUS)]
    Status(StatusArgs),
    /// Read the whole log and check every byte of it
    #[command(after_help = examples::VERIFY)]
    Verify(VerifyArgs),
    /// Replace the key that opens the log's keys, or begin a new data key; the log is not rewritten
    #[command(after_help = examples::REKEY)]
    Rekey(RekeyArgs),
    /// Show the keys of the log: which there are, and what opens them
    #[command(after_help = examples::KEY)]
    Key(KeyArgs),
    /// List what was written when, with chain hashes; check that nothing of it was changed since
    #[command(after_help = examples::AUDIT)]
    Audit(AuditArgs),
    /// Copy the log of a node, which may be at work, to a directory of its own
    #[command(after_help = examples::SNAPSHOT)]
    Snapshot(SnapshotArgs),
    /// Make a data directory from a snapshot
    #[command(after_help = examples::RESTORE)]
    Restore(RestoreArgs),
    /// Say which old events may be removed from this node's log, or show what was said
    #[command(after_help = examples::RETAIN)]
    Retain(RetainArgs),
    /// Remove old events by the rule of `retain`, or say what stays and why
    #[command(after_help = examples::EXPIRE)]
    Expire(ExpireArgs),
    /// Ask for withheld events once more, when what kept them away is gone: they come with the next sync
    #[command(after_help = examples::FETCH)]
    Fetch(FetchArgs),
    /// Say up to where a backup of this hub exists: nothing newer is removed
    #[command(after_help = examples::BACKUP_MARK)]
    BackupMark(BackupMarkArgs),
    /// Show or set the base sample: invented events that hub and clinics know before the first one
    #[command(after_help = examples::SAMPLE)]
    Sample(SampleArgs),
    /// Print a completion script for a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions(CompletionsArgs),
}

/// `ropeway demo`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct DemoArgs {
    /// How many clinics
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub clinics: u32,
    /// How many events, of all clinics together
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub events: u64,
    /// How each clinic's link behaves
    #[arg(long, value_name = "NAME", default_value = "bhutan-2g", value_parser = value::PROFILE)]
    pub profile: Profile,
    /// Cut each clinic's link once, in the middle of the transfer (the default)
    #[arg(long, overrides_with = "no_cut")]
    cut: bool,
    /// Let all links hold
    #[arg(long, overrides_with = "cut")]
    no_cut: bool,
    /// How many times faster than the real link; a run with all defaults takes some 15 seconds
    #[arg(long, value_name = "X", default_value = "4", value_parser = value::SPEED)]
    pub speed: f64,
    /// Which events are invented; the same number gives the same events on every machine
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Keep all data directories in DIR, new or empty; without it they are removed at the end
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

impl DemoArgs {
    /// Whether a link is cut.
    #[must_use]
    pub fn cut(&self) -> bool {
        !self.no_cut
    }
}

/// `ropeway sign`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SignArgs {
    /// The node's request: DIR/tls/node.csr; node.crt and ca.crt are written beside it
    #[arg(value_name = "CSR")]
    pub csr: PathBuf,
    /// The directory of the hub that holds the CA
    #[arg(long = "ca", value_name = "HUBDIR")]
    pub ca_dir: PathBuf,
    /// What the node may be
    #[arg(long, default_value = "clinic", value_parser = value::ROLE)]
    pub role: Role,
    /// Sign although another key has this name: the device was replaced
    #[arg(long)]
    pub replace: bool,
}

/// `ropeway serve`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ServeArgs {
    /// The hub's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where to listen: IP:PORT; port 0 takes a free one
    #[arg(long, value_name = "ADDR", value_parser = value::BIND_ADDR)]
    pub bind: SocketAddr,
    /// What clinics may read here
    #[arg(long, default_value = "own", value_parser = value::POLICY)]
    pub policy: Policy,
    /// How many clinics at once; memory is set aside for all of them
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_sessions: u32,
    /// How fast the log is read to find rot: monthly (each segment once a month), bytes a second (500k), or off
    #[arg(long, value_name = "RATE", default_value = "monthly", value_parser = value::SCRUB_RATE)]
    pub scrub: ScrubRate,
    /// States of the strongest codec, of 3 MB each: one for each clinic that sends at the same time; 0: never used
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub model_states: u32,
    /// Take what clinics that come back send with their first packet, before the handshake has ended (`sync --keep
    /// --early-data`): a round trip less for them; docs/OPERATIONS.md weighs it
    #[arg(long)]
    pub early_data: bool,
    /// Refuse events with a larger payload than this; what follows them is taken, and both ends are told
    #[arg(long, value_name = "BYTES", value_parser = value::SIZE)]
    pub max_event: Option<u64>,
    /// Refuse events of this kind likewise; may be given several times, or as a list with commas
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub refuse_kind: Vec<u16>,
}

impl ServeArgs {
    /// Warns of options that give away more than usual.
    pub fn warn(&self, out: &mut Output) {
        if self.policy == Policy::All {
            out.warn(
                "--policy all: every clinic with a certificate of this hub can read the events of \
                 all other clinics, patients' records included",
            );
        }
    }
}

/// `ropeway sync`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SyncArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Where the hub is: HOST:PORT
    #[arg(long, value_name = "ADDR", value_parser = value::HUB_ADDR)]
    pub hub: HubAddr,
    /// Give up after so many seconds in all; without it, only when the hub is silent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub timeout_s: Option<u64>,
    /// What it may cost.
    #[command(flatten)]
    pub budget: BudgetArgs,
    /// Connect nowhere; say what waits for the hub, and about how many bytes and seconds it would take
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the session: stay connected, send what is pushed at once, call again after a loss, until SIGTERM.
    /// (`pull --follow` prints what comes into this node's log, and connects nowhere)
    #[arg(long, conflicts_with_all = ["timeout_s", "dry_run", "max_bytes", "budget", "urgent_overdraft", "rate", "window"])]
    pub keep: bool,
    /// After a loss, send the first events with the first packet: a round trip less, if the hub allows it (`serve
    /// --early-data`). Who is on the way can hold that packet up and deliver it
    /// later, once; docs/OPERATIONS.md weighs it
    #[arg(long, requires = "keep")]
    pub early_data: bool,
    /// States of the strongest codec, of 3 MB each: with more, less is learned anew where lanes take turns; 0: never
    /// used, which takes the least memory and up to three times the bytes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=16))]
    pub model_states: u32,
}

impl SyncArgs {
    /// How the node is opened.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { model_states: self.model_states as usize, ..Options::default() }
    }
}

/// `ropeway pull`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct PullArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Print the payloads alone, as they are, each with a line end
    #[arg(long)]
    pub raw: bool,
    /// Go on printing events as they come
    #[arg(long)]
    pub follow: bool,
}

/// `ropeway status`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// `ropeway verify`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct VerifyArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Compare checksums only: fast, and needs no key; finds rot, but nothing that was altered on purpose
    #[arg(long)]
    pub quick: bool,
}

/// `ropeway rekey`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("to").multiple(false))]
pub struct RekeyArgs {
    /// This node's directory; nothing may be running on it
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Write under a new data key from now on; alone, the key that opens the keys stays as it is
    #[arg(long)]
    pub data: bool,
    /// Open the keys by a passphrase from now on: it is asked for, or ROPEWAY_NEW_PASSPHRASE_FILE names it
    #[arg(long, group = "to")]
    pub to_passphrase: bool,
    /// Open the keys by a key file from now on [default FILE: DIR/keys/log.key]; made if it is not there
    #[arg(long, value_name = "FILE", num_args = 0..=1, group = "to")]
    pub to_file: Option<Option<PathBuf>>,
    /// Open the keys by the service manager's credential `ropeway-key` from now on
    #[arg(long, group = "to")]
    pub to_credential: bool,
}

/// `ropeway key`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct KeyArgs {
    /// What to do with the keys.
    #[command(subcommand)]
    pub command: KeyCommand,
}

/// The verbs of `ropeway key`.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum KeyCommand {
    /// List the data keys with the segments that need them
    #[command(after_help = examples::KEY)]
    List(KeyListArgs),
}

/// `ropeway key list`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct KeyListArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
}

/// `ropeway sample`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("what").multiple(false))]
pub struct SampleArgs {
    /// This node's directory; it may be at work, and takes the sample at its next start
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// One invented event a line, as applications write them, never those of patients; 256 KiB at most
    #[arg(long, value_name = "FILE", group = "what")]
    pub set: Option<PathBuf>,
    /// Go on without
    #[arg(long, group = "what")]
    pub remove: bool,
}

/// `ropeway completions`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// Parses a command line into a [`Cli`] or clap's own error; see [`parse`] for the program's way.
///
/// # Errors
/// clap's, for wrong usage and for `--help` and `--version`.
pub fn try_parse(argv: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let cli = Cli::try_parse_from(argv)?;
    split::check(&cli)?;
    Ok(cli)
}

#[cfg(test)]
mod tests;
