//! Resident memory of the real programs.

use std::process::Stdio;
use std::time::Duration;

use ropeway_core::id::Lane;
use ropeway_mio::demo::link::{Link, LinkOptions};
use ropeway_std::DataDir;
use ropeway_std::tls::Clock;

use super::process::{Process, Serving, program};
use crate::Result;
use crate::corpus::Corpus;
use crate::progress::bar;
use crate::table::{Cell, Table};
use crate::wire::air::Air;
use crate::wire::host::{Host, make_clinic, make_hub};
use crate::wire::{fill, home};

/// Events that each clinic syncs.
const EVENTS: usize = 1_000;
/// How often a process is looked at. What it takes last of all is missed if that is quicker.
const LOOK: Duration = Duration::from_millis(5);

/// Peaks, in KiB.
struct Peaks {
    idle: u64,
    hub: u64,
    clinics: Vec<u64>,
}

/// The table; none, and a sentence, where nobody tells of a process's memory.
pub(super) fn measure(corpus: &Corpus) -> Result<Option<Table>> {
    if !cfg!(target_os = "linux") {
        eprintln!("the part `memory` is skipped: it needs Linux");
        return Ok(None);
    }
    let mut table = Table::new(
        "memory",
        format!("Peak resident memory while {EVENTS} events ({}) of each clinic are synced over 2G", corpus.name),
        &[("process", "process"), ("codec", "codec"), ("peak_kib", "peak (KiB)")],
    );
    let bar = bar("memory", 4);
    for (codec, states) in [("zstd", "0"), ("model", "5")] {
        let mut row = |process: &str, kib: u64| {
            table.row(vec![Cell::Text(process.into()), Cell::Text(codec.into()), Cell::Count(kib)]);
        };
        for clinics in [1, 5] {
            let peaks = sync(corpus, clinics, states)?;
            if clinics == 1 {
                row("hub, nobody there", peaks.idle);
            }
            row(&format!("hub, {clinics} syncing"), peaks.hub);
            if clinics == 1 {
                row("a clinic's `sync`", peaks.clinics.iter().copied().max().unwrap_or(0));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let whose = if program()?.1 { "the program beside this one" } else { "this program, which does the same" };
    table.note(format!(
        "VmHWM of processes of {whose}, pages of the program itself with it. The hub's disk is memory of the system, not \
         its own. With zstd: `serve --model-states 0`."
    ));
    Ok(Some(table))
}

/// Lets so many clinics sync at once.
fn sync(corpus: &Corpus, clinics: usize, states: &str) -> Result<Peaks> {
    let home = home()?;
    let hub = make_hub(home.path(), Clock::System)?;
    let mut dirs: Vec<DataDir> = Vec::new();
    for n in 0..clinics {
        let dir = make_clinic(home.path(), &hub, &format!("clinic_{n}"), Clock::System)?;
        fill(&mut Host::open(&dir, 0)?, 0, corpus, 0..EVENTS.min(corpus.len()), Lane::Normal, 120)?;
        dirs.push(dir);
    }
    let serving = Serving::start(&hub, &["--model-states", states])?;
    let idle = serving.process.peak_kib().ok_or("the hub has ended")?;
    let address = serving.address().parse()?;
    let mut links = Vec::new();
    let mut syncs = Vec::new();
    for dir in &dirs {
        let link = Link::start(address, &Air::thin().profile(), LinkOptions { speed: 1.0, seed: 1, cut: None })?;
        let process = Process::start(&["sync", "--hub", &link.address().to_string()], dir, Stdio::null())?;
        links.push(link);
        syncs.push((process, 0));
    }
    let mut open = true;
    while open {
        std::thread::sleep(LOOK);
        open = false;
        for (process, peak) in &mut syncs {
            *peak = process.peak_kib().unwrap_or(*peak);
            open |= !process.has_ended()?;
        }
    }
    let hub = serving.process.peak_kib().ok_or("the hub has ended")?;
    Ok(Peaks { idle, hub, clinics: syncs.iter().map(|(_, peak)| *peak).collect() })
}
