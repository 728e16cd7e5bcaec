//! How fast a full segment is sealed, and how small it becomes.

use std::path::Path;
use std::time::{Duration, Instant};

use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_std::store::{DirFiles, Files, SideFile};

use super::workload::{PAYLOAD_BYTES, Payloads, node};
use crate::Result;
use crate::stats::median;
use crate::table::{Cell, Table};

/// Events of a commit.
const GROUP: u64 = 1_000;

pub(super) fn measure(home: &Path, rounds: u32) -> Result<Table> {
    let mut table = Table::new(
        "seal",
        "Sealing one full segment",
        &[
            ("payload", "payload"),
            ("hot_bytes", "hot (B)"),
            ("sealed_bytes", "sealed (B)"),
            ("seconds", "time (s)"),
            ("mib_per_s", "hot MiB/s"),
        ],
    );
    for (what, text) in [("random", false), ("JSON", true)] {
        let (mut seconds, mut sealed) = (Vec::new(), 0);
        for round in 0..rounds.min(3) {
            let (dir, mut node) = node(home, &format!("seal-{what}-{round}"))?;
            let (mut payloads, mut files) = (Payloads::new(PAYLOAD_BYTES), DirFiles::new(&dir));
            let mut n = 0u64;
            // Sealing begins when a segment is followed by another: it is timed from there on.
            while newest(&mut files)? < 2 {
                for _ in 0..GROUP {
                    n += 1;
                    let drawn = payloads.next();
                    let json = format!(
                        "{{\"type\":\"vitals\",\"pid\":\"1040{:07}\",\"visit\":{n},\"temp_c\":36.{},\"pulse\":{},\"by\":\"NU38{:02}\"}}",
                        drawn[0] as u32 * 7919,
                        drawn[1] % 10,
                        60 + drawn[2] % 60,
                        drawn[3] % 40
                    );
                    node.append(Lane::Normal, 1, if text { json.as_bytes() } else { drawn })?;
                }
                node.commit()?;
            }
            let begin = Instant::now();
            node.maintain(Duration::from_secs(120));
            seconds.push(begin.elapsed().as_secs_f64());
            sealed = files.side_len(SideFile::Sealed(1))?.ok_or("the segment was not sealed")?;
            drop(node);
            std::fs::remove_dir_all(dir.root())?;
        }
        let (hot, s) = (Limits::clinic().segment_bytes as u64, median(&seconds));
        table.row(vec![
            Cell::Text(what.into()),
            Cell::Count(hot),
            Cell::Count(sealed),
            Cell::Figure(s, 2),
            Cell::Figure(hot as f64 / f64::from(1 << 20) / s, 1),
        ]);
    }
    table.note(
        "With the checkpoint that follows. In the daemon it is done in steps while the disk has nothing else to do.",
    );
    Ok(table)
}

/// The newest segment that something was written to.
fn newest(files: &mut DirFiles) -> Result<u64> {
    let mut newest = 0;
    for number in files.list()? {
        let mut word = [0; 4];
        files.read_at(number, 0, &mut word)?;
        if word != [0; 4] {
            newest = newest.max(number);
        }
    }
    Ok(newest)
}
