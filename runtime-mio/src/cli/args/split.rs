//! Arguments of which exactly one of several may be given: clap checks that, and here it becomes an
//! enum, so that no verb has to.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches};
use ropeway_core::id::{Lane, NodeName};
use ropeway_std::keygen::HUB_NAME;

use super::{Cli, Command};
use crate::cli::value::{self, Input};

/// `ropeway keygen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeygenArgs {
    /// The directory to make it in.
    pub dir: PathBuf,
    /// What to make.
    pub node: NewNode,
}

/// What keygen makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewNode {
    /// A hub of this name, with a CA.
    Hub(NodeName),
    /// A clinic's node of this name.
    Clinic(NodeName),
}

/// `ropeway push`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushArgs {
    /// This node's directory.
    pub data_dir: PathBuf,
    /// Where the events come from.
    pub source: Source,
    /// How urgent they are.
    pub lane: Lane,
    /// Application-defined type of each event, 0 for none.
    pub kind: u16,
}

/// Where pushed events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// One event with this payload.
    Payload(String),
    /// One event for each line that is not empty.
    Ndjson(Input),
    /// One event whose payload is all of standard input, any bytes.
    Stdin,
}

#[derive(Args)]
struct RawKeygen {
    /// The directory: empty, or not there yet
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    #[command(flatten)]
    node: RawNewNode,
    /// Name of the hub [default: hub]
    #[arg(long, value_name = "NAME", conflicts_with = "node", value_parser = value::NODE_NAME)]
    name: Option<NodeName>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RawNewNode {
    /// Make a hub: a CA, the hub's certificate, a log key
    #[arg(long)]
    hub: bool,
    /// Make a clinic's node of this name: a key pair, a request (tls/node.csr), a log key
    #[arg(long, value_name = "NAME", value_parser = value::NODE_NAME)]
    node: Option<NodeName>,
}

impl RawKeygen {
    fn check(self) -> Result<KeygenArgs, clap::Error> {
        let node = match (self.node.node, self.name) {
            (Some(name), _) => NewNode::Clinic(name),
            (None, Some(name)) => NewNode::Hub(name),
            (None, None) => NewNode::Hub(NodeName::new(HUB_NAME).map_err(clap_raw)?),
        };
        Ok(KeygenArgs { dir: self.dir, node })
    }
}

#[derive(Args)]
struct RawPush {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    #[command(flatten)]
    source: RawSource,
    /// How urgent it is: lanes do not wait for one another
    #[arg(long, value_name = "LANE", default_value = "normal", value_parser = value::LANE)]
    lane: Lane,
    /// Type of the event, a number that the application chooses
    #[arg(long, value_name = "N", default_value_t = 0)]
    kind: u16,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct RawSource {
    /// Append one event with this payload
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    payload: Option<String>,
    /// Append an event for each line of this file; - is standard input
    #[arg(long, value_name = "FILE")]
    ndjson: Option<PathBuf>,
    /// Append one event whose payload is all of standard input, any bytes
    #[arg(long)]
    stdin: bool,
}

impl RawPush {
    fn check(self) -> Result<PushArgs, clap::Error> {
        let source = match (self.source.payload, self.source.ndjson) {
            (Some(text), _) => Source::Payload(text),
            (None, Some(path)) => Source::Ndjson(path.into()),
            (None, None) => Source::Stdin,
        };
        Ok(PushArgs { data_dir: self.data_dir, source, lane: self.lane, kind: self.kind })
    }
}

macro_rules! parsed_as {
    ($args:ident from $raw:ident) => {
        impl Args for $args {
            fn augment_args(cmd: clap::Command) -> clap::Command {
                $raw::augment_args(cmd)
            }

            fn augment_args_for_update(cmd: clap::Command) -> clap::Command {
                $raw::augment_args_for_update(cmd)
            }
        }

        impl FromArgMatches for $args {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                $raw::from_arg_matches(matches)?.check()
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

parsed_as!(KeygenArgs from RawKeygen);
parsed_as!(PushArgs from RawPush);

fn clap_raw(what: impl std::fmt::Display) -> clap::Error {
    clap::Error::raw(ErrorKind::ValueValidation, what)
}

/// What clap cannot check: options of a verb against those of every verb.
pub(super) fn check(cli: &Cli) -> Result<(), clap::Error> {
    match &cli.command {
        Command::Pull(pull) if pull.raw && cli.global.json => {
            let what = "the argument '--raw' cannot be used with '--json': payloads are not JSON objects of ours";
            Err(Cli::command().error(ErrorKind::ArgumentConflict, what))
        }
        _ => Ok(()),
    }
}
