//! The arguments of the verbs that look at a log, copy it and bring it back.

use std::path::PathBuf;

use clap::Args;
use ropeway_core::id::{Lane, NodeName};
use ropeway_std::pass::Filter;

use crate::cli::{time, value};

/// Which events: the same for every verb that lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct FilterArgs {
    /// Only events of this node; may be given several times, or as a list with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = value::NODE_NAME)]
    pub node: Vec<NodeName>,
    /// Only events of this lane; may be given several times
    #[arg(long, value_name = "LANE", value_delimiter = ',', value_parser = value::LANE)]
    pub lane: Vec<Lane>,
    /// Only events of this kind; may be given several times
    #[arg(long, value_name = "N", value_delimiter = ',')]
    pub kind: Vec<u16>,
    /// Only events stamped at this time or later: 2026-03-01T08:00:00Z, 2026-03-01, or an age as 2d, 6h
    #[arg(long, value_name = "TIME", value_parser = time::TIME)]
    pub since: Option<u64>,
    /// Only events stamped before this time
    #[arg(long, value_name = "TIME", value_parser = time::TIME)]
    pub until: Option<u64>,
    /// Only events with this sequence number or a higher one
    #[arg(long = "from", value_name = "SEQ", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub from_seq: u64,
}

impl FilterArgs {
    /// As a pass over the log takes it.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter {
            nodes: self.node.clone(),
            lanes: self.lane.clone(),
            kinds: self.kind.clone(),
            since_ms: self.since,
            until_ms: self.until,
            from_seq: self.from_seq,
        }
    }
}

/// `ropeway audit`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct AuditArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Which events.
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Print only the head of each stream: STREAM:SEQ:HASH
    #[arg(long)]
    pub heads: bool,
    /// Check that the log still holds this head, or all heads of this file (printed by --heads, or a
    /// snapshot's manifest.json); may be given several times
    #[arg(long, value_name = "FILE|STREAM:SEQ:HASH", conflicts_with_all = ["heads", "node", "lane", "kind", "since", "until"])]
    pub check_head: Vec<String>,
}

/// `ropeway snapshot`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct SnapshotArgs {
    /// Where to: a directory that is empty or not there yet
    #[arg(value_name = "DEST")]
    pub dest: PathBuf,
    /// This node's directory; the node may be at work
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Put the log's key in too: then the snapshot alone lets anybody read everything
    #[arg(long)]
    pub with_key: bool,
}

/// `ropeway restore`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RestoreArgs {
    /// The snapshot's directory
    #[arg(value_name = "SNAPSHOT")]
    pub snapshot: PathBuf,
    /// Where to: a directory that is empty or not there yet, or a new node without a log
    #[arg(long = "dir", visible_alias = "data-dir", value_name = "DIR")]
    pub dir: PathBuf,
    /// Where the log's key is, if the snapshot does not hold it: the old directory, its folder keys, or
    /// the one file log.key
    #[arg(long, value_name = "PATH")]
    pub keys: Option<PathBuf>,
    /// Where the node's private key and certificate are: the old directory or a copy of its tls/;
    /// without it a new key pair is made, to be signed
    #[arg(long, value_name = "DIR")]
    pub identity: Option<PathBuf>,
}
