//! A program that keeps its events in Ropeway: `embed DIR HUB:PORT`, with a DIR from
//! `ropeway keygen` and `ropeway sign`.
use ropeway_core::id::Lane;
use ropeway_std::{DataDir, Replica};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (dir, hub) = args.next().zip(args.next()).ok_or("usage: embed DIR HUB:PORT")?;
    let mut node = Replica::open(DataDir::new(dir), Default::default())?;
    node.append(Lane::Normal, 0, br#"{"patient":"BT-0042","event":"registration"}"#)?;
    node.commit()?; // durable from here on, with or without a link
    node.read(1, |stream, seq, event| println!("{stream} {seq}: {} bytes", event.payload.len()))?;
    let report = node.sync(&hub, &Default::default(), |_| ())?;
    println!("{} sent, {} acknowledged, {} received", report.sent, report.acknowledged, report.received);
    Ok(())
}
