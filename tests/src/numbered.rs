//! Events that carry their own number, and small segments: whoever reads a log of them can tell
//! what is missing, what is double and what is not what it was.

use std::collections::BTreeMap;
use std::time::Duration;

use ropeway_core::code::Code;
use ropeway_core::id::Lane;
use ropeway_core::limits::Limits;
use ropeway_std::store::Stop;
use ropeway_std::view::Filter;
use ropeway_std::{DataDir, LogView, Options, Replica, Result};

use crate::Random;

/// A node whose segments have 6 pages: a few groups fill one.
#[must_use]
pub fn small() -> Options {
    let limits = Limits { streams: 64, streams_per_node: 64, links: 64, segment_bytes: 6 * 4096, ..Limits::leaf() };
    Options { limits, ..Options::default() }
}

/// Event number `n`, of about `len` bytes. One line of text.
#[must_use]
pub fn payload(n: u64, len: usize) -> Vec<u8> {
    let mut bytes = format!("{n} {len} ").into_bytes();
    let mut random = Random::new(n);
    while bytes.len() < len {
        bytes.push(b'a' + random.below(26) as u8);
    }
    bytes
}

/// The number of an event; `None` unless it is that event to the last byte.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut words = text.split(' ');
    let (n, len) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    (len <= 1 << 20 && payload(n, len) == bytes).then_some(n)
}

/// The lane that the helper program puts an event in.
#[must_use]
pub fn lane(n: u64) -> Lane {
    Lane::ALL[(n % 3) as usize]
}

/// What a log of numbered events holds.
#[derive(Debug)]
pub struct Held {
    /// So many events, those included that were removed by a rule.
    pub count: u64,
    /// So many of these were removed: the first ones.
    pub expired: u64,
    /// Their numbers, ascending.
    pub numbers: Vec<u64>,
    /// `ropeway verify` would say that it is clean.
    pub clean: bool,
    /// What is not as it should be, for a failed test.
    pub damages: String,
}

/// Reads the log of `dir` through its index.
///
/// # Errors
/// Those of [`LogView`].
///
/// # Panics
/// If an event is not one of ours, comes twice, in the wrong order, or one before the last is not
/// there.
pub fn held(dir: &DataDir) -> Result<Held> {
    let held = held_in_part(dir)?;
    assert!(held.numbers.iter().copied().eq(held.expired + 1..=held.count), "{held:?}");
    Ok(held)
}

/// As [`held`], of a log that may have more of one lane than of another.
///
/// # Errors
/// As [`held`].
///
/// # Panics
/// As [`held`], but for what is not there.
pub fn held_in_part(dir: &DataDir) -> Result<Held> {
    let mut view = LogView::open(dir)?;
    let (mut numbers, mut last) = (Vec::new(), BTreeMap::new());
    let missing = view.read(&Filter::default(), 1, |stream, seq, e| {
        let n = number(e.payload);
        let n = n.unwrap_or_else(|| panic!("{stream} {seq} was altered: {:?}", String::from_utf8_lossy(e.payload)));
        let before = last.insert(stream.to_string(), n);
        assert!(before.is_none_or(|b| b < n), "{stream}: {n} follows {before:?}");
        numbers.push(n);
        Stop::No
    })?;
    numbers.sort_unstable();
    let expired = view.frontier().map(|e| e.floor).sum();
    let count = expired + numbers.len() as u64;
    assert!(numbers.windows(2).all(|w| w[0] < w[1]), "{numbers:?}");
    let damages = format!("{:?}, missing {missing:?}", view.damages());
    Ok(Held {
        count,
        expired,
        numbers,
        clean: missing.is_empty() && !view.damages().iter().any(|d| d.is_loss()),
        damages,
    })
}

/// Opens a node with [`small`] sizes.
///
/// # Errors
/// Those of [`Replica::open`].
pub fn open(dir: &DataDir) -> Result<Replica> {
    for _ in 0..200 {
        match Replica::open(dir.clone(), small()) {
            // Another test of this process may be starting a program just now: until its `exec`, the child
            // holds a copy of every lock.
            Err(e) if e.code == Code::Locked => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    Replica::open(dir.clone(), small())
}

/// Appends events `from..from + count` and commits.
///
/// # Errors
/// The first of [`Replica::append`] and [`Replica::commit`].
pub fn write(node: &mut Replica, from: u64, count: u64, len: usize) -> Result<()> {
    for n in from..from + count {
        node.append(lane(n), 0, &payload(n, len))?;
    }
    node.commit()
}
