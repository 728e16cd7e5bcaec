//! The arguments of the verbs that keep a log small, or whole.

use std::path::PathBuf;

use clap::Args;
use ropeway_core::id::NodeName;

use crate::cli::{time, value};

/// `ropeway retain`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RetainArgs {
    /// This node's directory; the node may be at work, and follows the rule within minutes
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Segments may go when everything in them is older: 90d, 26w
    #[arg(long, value_name = "AGE", value_parser = time::AGE)]
    pub age: Option<u64>,
    /// The oldest segments may go while the log is larger: 4GiB, 500MB
    #[arg(long, value_name = "SIZE", value_parser = value::SIZE)]
    pub bytes: Option<u64>,
    /// So many of the newest events of each stream stay all the same
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub keep_at_least: u64,
    /// Show the rule (the same without any option)
    #[arg(long, conflicts_with_all = ["age", "bytes", "keep_at_least", "off"])]
    pub show: bool,
    /// Remove nothing from now on
    #[arg(long, conflicts_with_all = ["age", "bytes", "keep_at_least"])]
    pub off: bool,
}

/// `ropeway expire`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct ExpireArgs {
    /// This node's directory
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Only say what would go, and why the rest stays; works beside a process that writes
    #[arg(long)]
    pub dry_run: bool,
}

/// `ropeway fetch`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct FetchArgs {
    /// This node's directory; nothing may be running on it
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Only events of this node
    #[arg(long, value_name = "NAME", value_parser = value::NODE_NAME)]
    pub node: Option<NodeName>,
    /// Only say what would be asked for, and what would come again with it
    #[arg(long)]
    pub dry_run: bool,
    /// Ask for nothing any more: what was withheld stays so
    #[arg(long, conflicts_with = "dry_run")]
    pub cancel: bool,
}

/// `ropeway backup-mark`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
#[command(group = clap::ArgGroup::new("what").multiple(false))]
pub struct BackupMarkArgs {
    /// The hub's directory; the hub may be at work
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// This snapshot is kept in a safe place: what it holds may be removed
    #[arg(long, value_name = "SNAPSHOT", group = "what")]
    pub snapshot: Option<PathBuf>,
    /// A backup of another kind holds everything that the log holds now
    #[arg(long, group = "what")]
    pub now: bool,
}
