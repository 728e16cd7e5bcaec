//! Keeping the log small: which segments may be removed, and removing them (docs/LOG.md#expire-1).
//!
//! A [`Rule`] says what the operator wants to be rid of. What must not be lost decides: on a clinic only
//! what a hub has acknowledged, as the receipts in the log say; on a hub only what a backup holds
//! ([`Mark`]). [`explain`] says for each segment whether it goes, and why not.

mod keeper;
mod mark;
mod plan;
mod rule;
#[cfg(test)]
mod tests;

use ropeway_core::code::Code;
use serde::de::DeserializeOwned;

pub(crate) use keeper::judge_all;
pub use keeper::{Gone, Keeper, remove_some};
pub use mark::Mark;
pub use plan::{Evidence, Fate, Plan, Segment, Stay, Terms, Why, explain};
pub use rule::Rule;

use crate::error::{Error, Result};

/// The content of a JSON file with a version.
pub(crate) fn versioned<T: DeserializeOwned>(bytes: &[u8], version: u32) -> Result<T> {
    let bad = |what: &str| Error::new(Code::Config, what);
    // The version first: a newer file may have other fields.
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| bad("not JSON").with_source(e))?;
    match value.get("version").and_then(serde_json::Value::as_u64) {
        Some(v) if v == u64::from(version) => {}
        Some(v) if v > u64::from(version) => return Err(Error::new(Code::FormatNewer, format!("version {v}"))),
        _ => return Err(bad("no version that this program knows")),
    }
    serde_json::from_value(value).map_err(|e| bad("a field").with_source(e))
}
