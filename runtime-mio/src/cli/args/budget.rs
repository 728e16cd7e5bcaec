//! What `ropeway sync` may cost.

use clap::Args;
use ropeway_core::code::Code;
use ropeway_std::budget::{Budget, Window, Windows};

use crate::cli::error::{CliError, Result};
use crate::cli::value;

/// The options of [`Budget`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
#[command(next_help_heading = "Budget (bytes of the wire, TLS included, both directions; K, M, G are KiB, MiB, GiB)")]
pub struct BudgetArgs {
    /// So many bytes in this sync at most; the next one goes on where it was acknowledged
    #[arg(long, value_name = "SIZE", value_parser = value::BUDGET)]
    pub max_bytes: Option<u64>,
    /// So many bytes a day (UTC) at most, in all syncs of this directory together
    #[arg(long, value_name = "SIZE", value_parser = value::BUDGET)]
    pub budget: Option<u64>,
    /// So many bytes a day more than --budget for urgent events, which else wait for the next day too
    #[arg(long, value_name = "SIZE", requires = "budget", value_parser = value::SIZE)]
    pub urgent_overdraft: Option<u64>,
    /// Send at most so many bytes a second on average, and receive at most as many
    #[arg(long, value_name = "SIZE", value_parser = value::RATE)]
    pub rate: Option<u64>,
    /// Only at these hours (UTC), as 22:00-05:30; may be given several times
    #[arg(long, value_name = "HH:MM-HH:MM", value_parser = value::WINDOW)]
    pub window: Vec<Window>,
}

impl BudgetArgs {
    /// The same for the library.
    ///
    /// # Errors
    /// [`Code::BadArgument`] if there are too many windows.
    pub fn budget(&self) -> Result<Budget> {
        let windows = Windows::new(&self.window).map_err(|e| CliError::new(Code::BadArgument, e.context))?;
        Ok(Budget {
            session_bytes: self.max_bytes,
            day_bytes: self.budget,
            urgent_bytes: self.urgent_overdraft.unwrap_or(0),
            bytes_per_s: self.rate,
            windows,
        })
    }
}
