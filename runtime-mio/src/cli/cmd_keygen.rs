//! `ropeway keygen`.

use ropeway_core::policy::Role;
use ropeway_std::DataDir;
use ropeway_std::dir::NodeFile;
use ropeway_std::keygen::{init_hub, init_node};
use ropeway_std::tls::Clock;
use serde::Serialize;

use super::args::{KeygenArgs, NewNode};
use super::{Outcome, Output, Result};

/// The result for programs.
#[derive(Serialize)]
struct Made {
    node: String,
    role: &'static str,
    dir: String,
    deployment: Option<String>,
    log_key: String,
    /// What to take to the hub; hubs need no signature.
    csr: Option<String>,
}

/// Makes a hub or a clinic's node.
///
/// # Errors
/// Those of [`init_hub`] and [`init_node`].
pub fn run(args: &KeygenArgs, out: &mut Output) -> Result<Outcome> {
    let dir = DataDir::new(&args.dir);
    let node = match args.node {
        NewNode::Hub(name) => init_hub(&dir, name, Clock::System)?,
        NewNode::Clinic(name) => init_node(&dir, name)?,
    };
    match node.role {
        Role::Hub => say_hub(&dir, &node, out)?,
        Role::Clinic => say_clinic(&dir, &node, out)?,
    }
    out.object(&Made {
        node: node.name.to_string(),
        role: super::cmd_sign::role_word(node.role),
        dir: dir.root().display().to_string(),
        deployment: node.deployment.map(|d| d.to_string()),
        log_key: dir.log_key().display().to_string(),
        csr: (node.role == Role::Clinic).then(|| dir.node_csr().display().to_string()),
    })?;
    Ok(Outcome::Done)
}

fn say_hub(dir: &DataDir, node: &NodeFile, out: &mut Output) -> Result<()> {
    let root = dir.root().display();
    let deployment = node.deployment.map(|d| d.to_string()).unwrap_or_default();
    out.say(format_args!("made a hub in {root}: node {}, new deployment {deployment}", node.name))?;
    out.say(format_args!("  back up  {}  without it nobody can read the log", dir.log_key().display()))?;
    out.say(format_args!("  back up  {}  who has it can sign nodes", dir.ca_key().display()))?;
    out.say(format_args!("  next     ropeway serve --data-dir {root} --bind 0.0.0.0:7700"))
}

fn say_clinic(dir: &DataDir, node: &NodeFile, out: &mut Output) -> Result<()> {
    let csr = dir.node_csr();
    out.say(format_args!("made a node in {}: {}", dir.root().display(), node.name))?;
    out.say(format_args!("  back up  {}  without it nobody can read the log", dir.log_key().display()))?;
    out.say(format_args!("  next     ropeway sign {} --ca HUBDIR  where the hub's directory is", csr.display()))
}
