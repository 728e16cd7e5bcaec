//! What the log costs.

mod device;
mod open;
mod overhead;
mod rate;
mod read;
mod seal;
mod workload;

use clap::ValueEnum;

use crate::table::print;
use crate::{LogArgs, Result};

pub(crate) use open::open_once;
pub(crate) use workload::Payloads;

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Bytes on disk per event
    Overhead,
    /// Durable appends, beside a bare write and fdatasync of the same pages
    Rate,
    /// Bytes that reach the device for each commit
    Device,
    /// Sealing a full segment
    Seal,
    /// Time and memory of opening
    Open,
    /// Reading one event and a thousand
    Read,
}

/// Makes the tables that are asked for, and prints them.
pub(crate) fn run(args: &LogArgs) -> Result<()> {
    let home = match &args.dir {
        Some(dir) => tempfile::tempdir_in(dir).map_err(|e| format!("{}: {e}", dir.display()))?,
        None => tempfile::tempdir()?,
    };
    let wanted = |part| args.only.is_empty() || args.only.contains(&part);
    let mut tables = Vec::new();
    if wanted(Part::Overhead) {
        tables.push(overhead::measure(home.path())?);
    }
    if wanted(Part::Rate) {
        tables.push(rate::measure(home.path(), args.rounds)?);
    }
    if wanted(Part::Device) {
        tables.push(device::measure(home.path())?);
    }
    if wanted(Part::Seal) {
        tables.push(seal::measure(home.path(), args.rounds)?);
    }
    if wanted(Part::Open) || wanted(Part::Read) {
        let (mut open, mut read) = (open::table(), read::table());
        for events in &args.events {
            let dir = workload::log_of(home.path(), *events)?;
            if wanted(Part::Open) {
                open::measure(&mut open, dir.root(), *events, args.rounds)?;
            }
            if wanted(Part::Read) {
                read::measure(&mut read, &dir, *events, args.rounds)?;
            }
            std::fs::remove_dir_all(dir.root())?;
        }
        tables.extend(wanted(Part::Open).then_some(open));
        tables.extend(wanted(Part::Read).then_some(read));
    }
    print(&tables, args.json);
    Ok(())
}
