//! `ropeway sign`.

use ropeway_core::policy::Role;
use ropeway_std::DataDir;
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::tls::Clock;
use serde::Serialize;

use super::args::SignArgs;
use super::{Outcome, Output, Result, time};

/// The result for programs.
#[derive(Serialize)]
struct Wrote {
    node: String,
    role: &'static str,
    deployment: String,
    not_after_s: u64,
    node_crt: String,
    ca_crt: String,
    sample: Option<String>,
}

/// Signs a request.
///
/// # Errors
/// Those of [`sign`].
pub fn run(args: &SignArgs, out: &mut Output) -> Result<Outcome> {
    let options = SignOptions { role: args.role, replace: args.replace, clock: Clock::System };
    let signed = sign(&args.csr, &DataDir::new(&args.ca_dir), &options)?;
    let (cert, ca) = (signed.cert_path.display(), signed.ca_path.display());
    let role = role_word(signed.role);
    let until = time::day(signed.not_after_s);
    out.say(format_args!("signed {} as a {role} of deployment {}, until {until}", signed.node, signed.deployment))?;
    out.say(format_args!("  wrote    {cert}\n  wrote    {ca}"))?;
    let sample = signed.sample_path.as_ref().map(|path| path.display().to_string());
    if let Some(path) = &sample {
        out.say(format_args!("  wrote    {path}"))?;
    }
    out.say("  next     bring them back beside the node's tls/node.csr, if they are not there already")?;
    out.object(&Wrote {
        node: signed.node.to_string(),
        role,
        deployment: signed.deployment.to_string(),
        not_after_s: signed.not_after_s,
        node_crt: cert.to_string(),
        ca_crt: ca.to_string(),
        sample,
    })?;
    Ok(Outcome::Done)
}

/// The word for a role, as `--role` takes it.
pub(super) fn role_word(role: Role) -> &'static str {
    match role {
        Role::Clinic => "clinic",
        Role::Hub => "hub",
    }
}
