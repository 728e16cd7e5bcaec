//! Bytes on disk per event.

use std::path::Path;
use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_core::log::{
    FRAME_HEAD_BYTES, FRAME_TAG_BYTES, HEADER_BYTES, PAGE_BYTES, Record, SegmentScan, Step, padded_len, records,
};
use ropeway_std::DataDir;
use ropeway_std::store::{DirFiles, Files, SideFile};

use super::workload::{PAYLOAD_BYTES, Payloads, node_with};
use crate::Result;
use crate::progress::bar;
use crate::table::{Cell, Table};

/// Small, so that a few are filled soon.
const SEGMENT_BYTES: usize = 1 << 20;
/// Segments that are filled.
const SEGMENTS: u64 = 4;

pub(super) fn measure(home: &Path) -> Result<Table> {
    let mut table = Table::new(
        "overhead",
        format!("Bytes of overhead per event of {PAYLOAD_BYTES} bytes that no compression makes shorter"),
        &[
            ("events_per_commit", "events/commit"),
            ("frame_bytes", "in frames (B)"),
            ("hot_bytes", "hot, padded to pages (B)"),
            ("sealed_bytes", "sealed (B)"),
        ],
    );
    let cases = [1, 4, 16, 64, 256];
    let bar = bar("overhead", cases.len() as u64);
    for per_commit in cases {
        let limits = Limits { segment_bytes: SEGMENT_BYTES, ..Limits::clinic() };
        let (dir, mut node) = node_with(home, &format!("overhead-{per_commit}"), limits)?;
        let mut payloads = Payloads::new(PAYLOAD_BYTES);
        let group_pages = padded_len(per_commit * (PAYLOAD_BYTES + 8) + 100) / PAGE_BYTES;
        // Half a segment more, which stays hot.
        let commits = (SEGMENTS as usize * SEGMENT_BYTES + SEGMENT_BYTES / 2) / PAGE_BYTES / group_pages;
        for _ in 0..commits {
            for _ in 0..per_commit {
                node.append(Lane::Normal, 1, payloads.next())?;
            }
            node.commit()?;
        }
        node.maintain(Duration::from_secs(60));
        drop(node);
        // What is sealed and what is hot hold the same kind of groups.
        let hot = used(&dir)?;
        let sealed_events = (commits * per_commit) as u64 - hot.events;
        let over = |bytes: u64, events: u64| bytes as f64 / events.max(1) as f64 - PAYLOAD_BYTES as f64;
        table.row(vec![
            Cell::Count(per_commit as u64),
            Cell::Figure(over(hot.frame_bytes, hot.events), 1),
            Cell::Figure(over(hot.pages * PAGE_BYTES as u64, hot.events), 1),
            Cell::Figure(over(sealed_bytes(&dir)?, sealed_events), 1),
        ]);
        std::fs::remove_dir_all(dir.root())?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    table.note("Padding is written to the file's own pages only: see the table of device bytes.");
    Ok(table)
}

fn sealed_bytes(dir: &DataDir) -> Result<u64> {
    let mut files = DirFiles::new(dir);
    let mut bytes = 0;
    for number in files.list_sealed()? {
        bytes += files.side_len(SideFile::Sealed(number))?.unwrap_or(0);
    }
    Ok(bytes)
}

/// What stands in hot segments.
#[derive(Default)]
struct Used {
    events: u64,
    /// Bytes of headers and frames without their padding.
    frame_bytes: u64,
    pages: u64,
}

fn used(dir: &DataDir) -> Result<Used> {
    let keys = dir.keyring()?.data_keys();
    let mut files = DirFiles::new(dir);
    let mut used = Used::default();
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
                Step::Epoch { .. } => {
                    used.frame_bytes += HEADER_BYTES as u64;
                    used.pages += 1;
                }
                Step::Group { pages, body, .. } => {
                    used.frame_bytes += (body.len() + FRAME_HEAD_BYTES + FRAME_TAG_BYTES) as u64;
                    used.pages += pages;
                    for record in records(body).map_while(std::result::Result::ok) {
                        if let Record::Events(run) = record {
                            used.events += u64::from(run.count);
                        }
                    }
                }
                Step::End(_) => break,
                Step::Fault(code) => return Err(format!("segment {number}: {code}").into()),
                Step::NeedMore | Step::Damaged { .. } => {}
            }
        }
    }
    Ok(used)
}
