//! What becomes of damage: its bytes are set aside, its events are fetched again like any that are
//! missing, and the log tells when all of it is held again (docs/LOG.md#repair-1).
//!
//! | file | story |
//! |---|---|
//! | `ledger` | what the log tells of its damages |
//! | `book` | damages that are open, and what each of them waits for |
//! | `quarantine` | copies of damaged pages |

mod book;
mod ledger;
mod quarantine;
#[cfg(test)]
mod tests;

pub use book::Book;
pub use ledger::{Fate, Judged, Ledger, Note};
pub use quarantine::{QUARANTINE_MAX_BYTES, set_aside};
