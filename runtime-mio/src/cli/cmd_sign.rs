//! `ropeway sign`.

use ropeway_core::policy::Role;
use ropeway_std::DataDir;
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::tls::Clock;
use serde::Serialize;

use super::args::SignArgs;
use super::{Outcome, Output, Result};

/// The result for programs.
#[derive(Serialize)]
struct Wrote {
    node: String,
    role: &'static str,
    deployment: String,
    not_after_s: u64,
    node_crt: String,
    ca_crt: String,
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
    let until = date(signed.not_after_s);
    out.say(format_args!("signed {} as a {role} of deployment {}, until {until}", signed.node, signed.deployment))?;
    out.say(format_args!("  wrote    {cert}\n  wrote    {ca}"))?;
    out.say("  next     bring both back beside the node's tls/node.csr, if they are not there already")?;
    out.object(&Wrote {
        node: signed.node.to_string(),
        role,
        deployment: signed.deployment.to_string(),
        not_after_s: signed.not_after_s,
        node_crt: cert.to_string(),
        ca_crt: ca.to_string(),
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

/// The day (UTC) of a second since 1970: `2036-11-18`.
fn date(second: u64) -> String {
    // Years from March on, so that a leap day is a year's last; 719,468 days before 1970 began one.
    let days = second / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        let rows = [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_767_225_599, "2025-12-31"),
            (1_767_225_600, "2026-01-01"),
            (4_107_542_400, "2100-03-01"),
            (253_402_300_799, "9999-12-31"),
        ];
        for (second, day) in rows {
            assert_eq!(date(second), day);
        }
    }
}
