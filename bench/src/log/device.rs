//! Bytes that reach the device for each commit, from the block layer's counters.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ropeway_core::id::Lane;

use super::workload::{Payloads, node};
use crate::Result;
use crate::table::{Cell, Table};

const COMMITS: u64 = 400;

pub(super) fn measure(home: &Path) -> Result<Table> {
    let mut table = Table::new(
        "device",
        format!("Bytes written to the device, {COMMITS} commits of one event of 140 bytes"),
        &[("what", "what"), ("bytes_per_commit", "B/commit")],
    );
    let Some(counters) = counters(home)? else {
        table.note("The storage of this folder has no block device with counters: choose another with --dir.");
        return Ok(table);
    };
    let (_dir, mut node) = node(home, "device")?;
    let mut payloads = Payloads::new(140);
    node.append(Lane::Normal, 1, payloads.next())?;
    node.commit()?;
    rustix::fs::sync();
    let (begin, before) = (Instant::now(), sectors(&counters)?);
    for _ in 0..COMMITS {
        node.append(Lane::Normal, 1, payloads.next())?;
        node.commit()?;
    }
    let (took, written) = (begin.elapsed(), sectors(&counters)? - before);
    // What others write meanwhile: as long again, without us.
    let before = sectors(&counters)?;
    std::thread::sleep(took.max(Duration::from_millis(500)));
    let others = (sectors(&counters)? - before) as f64 * took.as_secs_f64() / took.as_secs_f64().max(0.5);
    table.row(vec![Cell::Text("one commit".into()), Cell::Figure(written as f64 * 512.0 / COMMITS as f64, 0)]);
    table.row(vec![
        Cell::Text("others, in the same time without us".into()),
        Cell::Figure(others * 512.0 / COMMITS as f64, 0),
    ]);
    table.note("A page is 4,096 bytes; what is above it is the file system's journal.");
    Ok(table)
}

/// Where the counters of the device below a folder stand.
fn counters(home: &Path) -> Result<Option<PathBuf>> {
    let dev = rustix::fs::stat(home)?.st_dev;
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let path = PathBuf::from(format!("/sys/dev/block/{major}:{minor}/stat"));
    Ok(path.exists().then_some(path))
}

/// Sectors of 512 bytes written so far: the seventh figure (Linux, Documentation/block/stat.rst).
fn sectors(counters: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(counters)?;
    let seventh = text.split_whitespace().nth(6).ok_or("the device's counters are too few")?;
    Ok(seventh.parse()?)
}
