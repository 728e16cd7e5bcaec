//! Events to measure with: files of JSON, or invented ones.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ropeway_codec::Record;
use ropeway_mio::demo::workload::Workload;

use crate::Result;
use crate::log::Payloads;

/// Events of one stream.
pub(crate) struct Corpus {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
    ends: Vec<usize>,
    /// Of each event; none for those of files.
    kinds: Vec<u16>,
}

impl Corpus {
    /// The first events of each of these files, or what an invented clinic writes if there are none.
    pub(crate) fn all(files: &[PathBuf], events: u32) -> Result<Vec<Self>> {
        match files {
            [] => Ok(vec![Self::generated(events as usize)]),
            files => files.iter().map(|path| Self::read(path, events as usize)).collect(),
        }
    }

    /// The first events of a file, one JSON object a line.
    pub(crate) fn read(path: &Path, events: usize) -> Result<Self> {
        let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for line in text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).take(events) {
            data.extend_from_slice(line);
            ends.push(data.len());
        }
        if ends.is_empty() {
            return Err(format!("{}: no events in it", path.display()).into());
        }
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            data,
            ends,
            kinds: Vec::new(),
        })
    }

    /// What an invented clinic writes; the same events each time.
    pub(crate) fn generated(events: usize) -> Self {
        let (mut data, mut ends, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let mut work = Workload::new(1, 0);
        for _ in 0..events {
            let (kind, payload) = work.next_event();
            data.extend_from_slice(&payload);
            ends.push(data.len());
            kinds.push(kind);
        }
        Self { name: "generated".into(), data, ends, kinds }
    }

    /// Events that no codec makes smaller.
    pub(crate) fn noise(events: usize, bytes: usize) -> Self {
        let mut payloads = Payloads::new(bytes);
        let data: Vec<u8> = (0..events).flat_map(|_| payloads.next().to_vec()).collect();
        Self { name: "noise".into(), data, ends: (1..=events).map(|n| n * bytes).collect(), kinds: Vec::new() }
    }

    /// These records, in order.
    pub(crate) fn of(name: &str, records: impl Iterator<Item = Vec<u8>>) -> Self {
        let (mut data, mut ends) = (Vec::new(), Vec::new());
        for record in records {
            data.extend_from_slice(&record);
            ends.push(data.len());
        }
        Self { name: name.into(), data, ends, kinds: Vec::new() }
    }

    /// Kind and payload of an event.
    pub(crate) fn event(&self, n: usize) -> (u16, &[u8]) {
        (self.kinds.get(n).copied().unwrap_or(0), &self.data[self.begin(n)..self.ends[n]])
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where an event begins in `data`.
    pub(crate) fn begin(&self, event: usize) -> usize {
        if event == 0 { 0 } else { self.ends[event - 1] }
    }

    pub(crate) fn records(&self, from: usize, to: usize) -> Vec<Record<'_>> {
        (from..to).map(|i| Record::from(&self.data[self.begin(i)..self.ends[i]])).collect()
    }

    /// The events as lines, as others get them.
    pub(crate) fn lines(&self, from: usize, to: usize) -> Vec<u8> {
        (from..to).flat_map(|i| [&self.data[self.begin(i)..self.ends[i]], b"\n"].concat()).collect()
    }
}

/// What the `xz` program makes of it, if there is one.
pub(crate) fn xz(data: &[u8]) -> Option<usize> {
    let mut child = Command::new("xz").args(["-9e", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut stdin = child.stdin.take()?;
    let owned = data.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&owned));
    let out = child.wait_with_output().ok()?;
    writer.join().ok()?.ok()?;
    out.status.success().then_some(out.stdout.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_corpus_is_cut_at_its_lines() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("small.ndjson");
        std::fs::write(&file, "{\"a\":1}\n\n{\"a\":22}\n{\"a\":3}\n").unwrap();
        let corpus = Corpus::read(&file, 2).unwrap();
        assert_eq!((corpus.len(), corpus.name.as_str()), (2, "small"));
        assert_eq!(corpus.records(1, 2)[0].bytes, b"{\"a\":22}");
        assert_eq!(corpus.lines(0, 2), b"{\"a\":1}\n{\"a\":22}\n");
    }
}
