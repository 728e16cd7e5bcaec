//! Bytes on disk per event.

use std::path::Path;

use ropeway_core::id::Lane;
use ropeway_core::log::{FRAME_HEAD_BYTES, FRAME_TAG_BYTES, HEADER_BYTES, PAGE_BYTES, SegmentScan, Step};
use ropeway_std::DataDir;
use ropeway_std::store::{DirFiles, Files};

use super::workload::{PAYLOAD_BYTES, Payloads, node};
use crate::Result;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// Events of each measurement.
const EVENTS: u64 = 4_096;

pub(super) fn measure(home: &Path) -> Result<Table> {
    let mut table = Table::new(
        "overhead",
        format!("Bytes of overhead per event of {PAYLOAD_BYTES} bytes, by events per commit"),
        &[
            ("events_per_commit", "events/commit"),
            ("frame_bytes", "in frames (B)"),
            ("hot_bytes", "hot, padded to pages (B)"),
        ],
    );
    let per_commit = [1, 4, 16, 64, 256];
    let bar = bar("overhead", EVENTS * per_commit.len() as u64);
    for n in per_commit {
        let (dir, mut node) = node(home, &format!("overhead-{n}"))?;
        let mut payloads = Payloads::new(PAYLOAD_BYTES);
        for i in 1..=EVENTS {
            node.append(Lane::Normal, 1, payloads.next())?;
            if i % n == 0 {
                node.commit()?;
                bar.inc(n);
            }
        }
        drop(node);
        let (frames, pages) = used(&dir)?;
        let over = |bytes: u64| (bytes as f64 - (EVENTS * PAYLOAD_BYTES as u64) as f64) / EVENTS as f64;
        table.row(vec![
            Cell::Count(n),
            Cell::Figure(over(frames), 1),
            Cell::Figure(over(pages * PAGE_BYTES as u64), 1),
        ]);
        std::fs::remove_dir_all(dir.root())?;
    }
    bar.finish_and_clear();
    table.note("Padding is written to the file's own pages only: see the table of device bytes.");
    Ok(table)
}

/// Bytes of headers and frames without their padding, and pages with it.
fn used(dir: &DataDir) -> Result<(u64, u64)> {
    let keys = dir.keyring()?.data_keys();
    let mut files = DirFiles::new(dir);
    let (mut bytes, mut used_pages) = (0, 0);
    for number in files.list()? {
        let len = files.len(number)?;
        let mut scan = SegmentScan::new(&keys, number, len, ropeway_core::log::MAX_BODY_BYTES)
            .map_err(|c| format!("segment {number}: {c}"))?;
        let mut buf = Vec::new();
        loop {
            let step = match scan.poll_want() {
                Some(want) => {
                    buf.resize(want.len, 0);
                    let n = files.read_at(number, want.offset, &mut buf)?;
                    scan.feed(&mut buf[..n])
                }
                None => scan.feed(&mut []),
            };
            match step {
                Step::Epoch { .. } => (bytes, used_pages) = (bytes + HEADER_BYTES as u64, used_pages + 1),
                Step::Group { pages, body, .. } => {
                    bytes += (body.len() + FRAME_HEAD_BYTES + FRAME_TAG_BYTES) as u64;
                    used_pages += pages;
                }
                Step::End(_) => break,
                Step::Fault(code) => return Err(format!("segment {number}: {code}").into()),
                Step::NeedMore | Step::Damaged { .. } => {}
            }
        }
    }
    Ok((bytes, used_pages))
}
