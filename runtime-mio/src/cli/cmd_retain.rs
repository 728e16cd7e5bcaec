//! `ropeway retain`.

use ropeway_std::retain::Rule;
use serde::Serialize;

use super::args::RetainArgs;
use super::{Outcome, Output, Result, passphrase, show};

/// The result for programs.
#[derive(Serialize)]
struct Retained {
    /// The rule; none: nothing is removed.
    rule: Option<Rule>,
    changed: bool,
}

/// Sets, shows or takes away the rule by which old events are removed.
///
/// # Errors
/// Those of [`Rule::write`] and [`Rule::read`].
pub fn run(args: &RetainArgs, out: &mut Output) -> Result<Outcome> {
    let dir = passphrase::data_dir(&args.data_dir);
    dir.node()?;
    let set = args.age.is_some() || args.bytes.is_some() || args.keep_at_least > 0;
    let (rule, changed) = if args.off {
        (None, Rule::remove(&dir)?)
    } else if set {
        let rule = Rule { age_ms: args.age, bytes: args.bytes, keep_at_least: args.keep_at_least };
        rule.write(&dir)?;
        (Some(rule), true)
    } else {
        (Rule::read(&dir)?, false)
    };
    out.line(text(rule.as_ref()))?;
    if set {
        out.say("  `ropeway expire --dry-run` says what goes and what stays")?;
    }
    out.object(&Retained { rule, changed })?;
    Ok(Outcome::Done)
}

/// The rule in one line.
pub(super) fn text(rule: Option<&Rule>) -> String {
    let Some(rule) = rule else { return "no rule: nothing is removed".to_owned() };
    let age = rule.age_ms.map(|ms| format!("older than {}", age(ms)));
    let size = rule.bytes.map(|bytes| format!("too much for a log of {}", show::size(bytes)));
    let what: Vec<String> = age.into_iter().chain(size).collect();
    let keep = match rule.keep_at_least {
        0 => String::new(),
        n => format!("; the newest {} of each stream stay", show::counted(n, "event")),
    };
    format!("segments may go that are {}{keep}", what.join(", or "))
}

/// `90 days`, `36 hours`, `10 s`.
fn age(ms: u64) -> String {
    match ms {
        _ if ms > 0 && ms.is_multiple_of(86_400_000) => show::counted(ms / 86_400_000, "day"),
        _ if ms > 0 && ms.is_multiple_of(3_600_000) => show::counted(ms / 3_600_000, "hour"),
        _ => format!("{} s", ms / 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_one_sentence() {
        let rule = |age_ms, bytes, keep_at_least| text(Some(&Rule { age_ms, bytes, keep_at_least }));
        assert_eq!(rule(Some(90 * 86_400_000), None, 0), "segments may go that are older than 90 days");
        assert_eq!(
            rule(Some(36 * 3_600_000), Some(4_000_000_000), 1),
            "segments may go that are older than 36 hours, or too much for a log of 4.0 GB; the newest 1 event of each stream stay"
        );
        assert_eq!(text(None), "no rule: nothing is removed");
    }
}
