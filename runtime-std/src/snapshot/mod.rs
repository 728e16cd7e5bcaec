//! A consistent copy of a node's log, taken while the node works.
//!
//! No lock is taken and nothing is written into the data directory. Segments only grow, and a page is
//! written once: so the copy is what was valid when the snapshot began, and what was being written at
//! that moment is left out. The newest group is in it only if it is seen to be on stable storage: a
//! copy must not know events that the node itself may lose with the next power cut.

mod copy;
mod manifest;
mod restore;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ropeway_core::code::Code;
use ropeway_core::event::Chain;
use ropeway_core::id::StreamKey;
use ropeway_core::log::{DataKey, PAGE_BYTES, SegmentName};

use crate::dir::{Access, DataDir, NodeFile, folder_of, is_temporary, node_role_str, sync_dir, write_atomic};
use crate::error::{Error, IoContext, Result};
use crate::identity::NodeIdentity;
use crate::pass::{Filter, Pass, Seen, Visitor};
use crate::repair::Judged;
use crate::store::{Damage, DirFiles, Files, GroupAt, keys};

pub(crate) use manifest::parse_stream;
pub use manifest::{FORMAT, FileEntry, INCOMPLETE, MANIFEST, Manifest, head, parse_head};
pub use restore::{RestoreOptions, Restored, restore};

/// How often a snapshot begins again because segments were exchanged under it.
const TRIES: u32 = 8;

type Keys = Arc<[(u32, DataKey)]>;

/// What a snapshot is to hold beside the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The key of the log: then the snapshot alone is enough to read everything.
    pub with_key: bool,
}

/// Copies the log of the node in `dir` to `dest`, a directory that is empty or not there yet. The
/// node may be at work. `progress` hears of bytes done and in all, more than once from the beginning.
///
/// The copy is read back and every tag and chain in it is checked before it is called complete. Until
/// then it holds a file `INCOMPLETE`, and [`restore`] refuses it.
///
/// # Errors
/// [`Code::BadArgument`] if `dest` holds something or lies in `dir`; those of reading a log;
/// [`Code::Io`], [`Code::DiskFull`]. What was copied by then is left, marked as incomplete.
pub fn snapshot(
    dir: &DataDir,
    dest: &Path,
    options: &SnapshotOptions,
    mut progress: impl FnMut(u64, u64),
) -> Result<Manifest> {
    let mut node = dir.node()?;
    // What it was signed as counts more than what it was made as.
    if let Ok(id) = NodeIdentity::load(dir) {
        node = NodeFile { role: id.role(), deployment: Some(id.deployment()), ..node };
    }
    let keys: Keys = Arc::from(keys(dir)?);
    begin(dir, dest)?;
    let (mut tries, mut without) = (0, None);
    let (mut files, copy) = loop {
        tries += 1;
        if tries > TRIES {
            let what = "the log changes faster than it can be copied, or the disk does not keep what is written";
            return Err(Error::at(Code::Io, dest, what));
        }
        let pass = Pass::over(DirFiles::new(dir), Arc::clone(&keys), node.name).without(without);
        let looked = look(pass, &mut progress).and_then(|source| {
            let stable = source.newest.map_or(Ok(true), |newest| is_stable(dir, newest))?;
            Ok((source, stable))
        });
        let (source, stable) = match looked {
            // A segment was sealed meanwhile: what was in it is durable.
            Err(e) if tries < TRIES && crate::identity::not_found(&e) => continue,
            other => other?,
        };
        match (source.newest, without) {
            // Something was written behind what was in doubt: that is durable then.
            (newest, Some(_)) if newest != without => {
                without = None;
                continue;
            }
            (Some(newest), None) if !stable => {
                log::warn!("the newest group may stand in the page cache only and is left out");
                without = Some(newest);
                continue;
            }
            _ => {}
        }
        let copied = copy_log(dir, dest, &source, without, &mut progress).and_then(|files| {
            let of_copy = Pass::over(DirFiles::new(&DataDir::new(dest)), Arc::clone(&keys), node.name);
            let copy = look(of_copy, &mut progress)?;
            let same = copy.heads == source.heads && copy.events == source.events && copy.losses == source.losses;
            Ok(same.then_some((files, copy)))
        });
        match copied {
            Ok(Some(done)) => break done,
            Ok(None) => {}
            // A segment went away between the list and the copy.
            Err(e) if tries < TRIES && crate::identity::not_found(&e) => {}
            Err(e) => return Err(e),
        }
        clear(&dest.join("log"))?;
    };
    if options.with_key {
        files.extend(copy_keys(dir, dest)?);
    }
    let manifest = describe(&node, options, files, &copy);
    finish(dest, &manifest)?;
    Ok(manifest)
}

/// What a pass over a whole log has shown.
struct Looked {
    heads: BTreeMap<StreamKey, (u64, Chain)>,
    events: u64,
    losses: usize,
    damages: Vec<Damage>,
    segments: Vec<crate::pass::SegmentSeen>,
    newest: Option<GroupAt>,
    incarnation: Option<ropeway_core::id::Incarnation>,
}

struct Watch<'p>(&'p mut dyn FnMut(u64, u64));

impl Visitor for Watch<'_> {
    fn event(&mut self, _: &Seen<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn progress(&mut self, done: u64, total: u64) {
        (self.0)(done, total);
    }
}

fn look(mut pass: Pass, progress: &mut dyn FnMut(u64, u64)) -> Result<Looked> {
    let _ = pass.run(&Filter::default(), &mut Watch(progress))?;
    Ok(Looked {
        heads: pass.streams().iter().map(|(key, t)| (*key, (t.top, t.chain))).collect(),
        events: pass.events(),
        losses: pass.judged().iter().filter(|j| j.is_loss()).count(),
        damages: pass.judged().into_iter().filter(Judged::is_loss).map(|j| j.damage).collect(),
        segments: pass.segments().to_vec(),
        newest: pass.newest(),
        incarnation: pass.incarnation(),
    })
}

/// Makes the place, marked as incomplete.
fn begin(dir: &DataDir, dest: &Path) -> Result<()> {
    let refuse = |what: &str| Error::at(Code::BadArgument, dest, what);
    match fs::read_dir(dest) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                return Err(refuse("it is there and not empty; name a new directory"));
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e).at("listing", dest),
    }
    let root = fs::canonicalize(dir.root()).at("looking for", dir.root())?;
    let parent = folder_of(dest);
    if fs::canonicalize(parent).is_ok_and(|p| p.starts_with(&root)) {
        return Err(refuse("it lies in the data directory; a backup belongs elsewhere"));
    }
    copy::make_folder(dest)?;
    write_atomic(&dest.join(INCOMPLETE), b"This snapshot is not complete. Do not restore it.\n", Access::Public)?;
    copy::make_folder(&dest.join("log"))?;
    sync_dir(parent)
}

/// Whether the newest group is on stable storage for certain. Everything before it is: one group is
/// in flight at a time.
fn is_stable(dir: &DataDir, newest: GroupAt) -> Result<bool> {
    let path = segment_path(dir, newest.segment);
    let file = File::open(&path).at("opening", &path)?;
    if let Err(e) = file.sync_data() {
        log::warn!("syncing {}: {e}", path.display());
        return Ok(false);
    }
    // A sync that follows a failed one succeeds and means nothing: the device is asked, where that is
    // possible.
    let offset = newest.from_page * PAGE_BYTES as u64;
    let len = (newest.to_page - newest.from_page) as usize * PAGE_BYTES;
    let (mut cached, mut stable) = (vec![0; len], vec![0; len]);
    let mut files = DirFiles::new(dir);
    if files.read_stable(newest.segment, offset, &mut stable).is_err() {
        return Ok(true);
    }
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut cached, offset).at("reading", &path)?;
    Ok(cached == stable)
}

fn segment_path(dir: &DataDir, number: u64) -> PathBuf {
    dir.log().join(SegmentName(number).to_string())
}

/// Copies the segments up to the last group that was seen, and whatever else of the log there is.
fn copy_log(
    dir: &DataDir,
    dest: &Path,
    source: &Looked,
    without: Option<GroupAt>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<FileEntry>> {
    let mut plan = Vec::new();
    for s in &source.segments {
        let end_page = match source.newest {
            Some(n) if n.segment == s.number && without == Some(n) => n.from_page,
            // What interrupted or running writes have left behind the newest group is nobody's.
            Some(n) if n.segment == s.number && !s.end_is_loss => s.ends.0,
            Some(n) if n.segment >= s.number => s.ends.1,
            _ if s.end_is_loss => s.ends.1,
            _ => continue,
        };
        let name = SegmentName(s.number).to_string();
        plan.push((name, (end_page * PAGE_BYTES as u64).min(s.len), s.len));
    }
    for name in plain_files(&dir.log())? {
        // Segments of other forms. Whatever only makes opening faster is made anew.
        if name.starts_with("seg-") && name.parse::<SegmentName>().is_err() {
            let path = dir.log().join(&name);
            let len = fs::metadata(&path).at("reading", &path)?.len();
            plan.push((name, len, len));
        }
    }
    let total = plan.iter().map(|p| p.1).sum();
    let (mut done, mut files) = (0, Vec::new());
    for (name, bytes, full_bytes) in plan {
        let (from, to) = (dir.log().join(&name), dest.join("log").join(&name));
        let (bytes, blake3) = copy::copy(&from, &to, bytes, 0, |n| {
            done += n;
            progress(done, total);
        })?;
        files.push(FileEntry { path: format!("log/{name}"), bytes, full_bytes, blake3 });
    }
    sync_dir(&dest.join("log"))?;
    Ok(files)
}

fn copy_keys(dir: &DataDir, dest: &Path) -> Result<Vec<FileEntry>> {
    let (from, to) = (dir.root().join("keys"), dest.join("keys"));
    copy::make_folder(&to)?;
    let mut files = Vec::new();
    for name in plain_files(&from)? {
        let (bytes, blake3) = copy::copy(&from.join(&name), &to.join(&name), u64::MAX, 0, |_| ())?;
        files.push(FileEntry { path: format!("keys/{name}"), bytes, full_bytes: bytes, blake3 });
    }
    sync_dir(&to)?;
    Ok(files)
}

/// The names of the plain files in a folder, sorted; none that are being written.
fn plain_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).at("listing", folder)? {
        let entry = entry.at("listing", folder)?;
        let plain = entry.file_type().at("listing", folder)?.is_file();
        if let Ok(name) = entry.file_name().into_string()
            && plain
            && !is_temporary(&name)
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn clear(folder: &Path) -> Result<()> {
    for name in plain_files(folder)? {
        fs::remove_file(folder.join(&name)).at("removing", folder)?;
    }
    Ok(())
}

fn describe(node: &NodeFile, options: &SnapshotOptions, files: Vec<FileEntry>, copy: &Looked) -> Manifest {
    Manifest {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        node: node.name.to_string(),
        role: node_role_str(node.role).to_owned(),
        deployment: node.deployment.map(|d| d.to_string()),
        incarnation: copy.incarnation.map(|i| i.to_string()),
        taken_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64),
        with_key: options.with_key,
        events: copy.events,
        heads: copy.heads.iter().map(|(key, (seq, chain))| head(key, *seq, chain)).collect(),
        damages: copy
            .damages
            .iter()
            .map(|d| format!("{}: segment {}, page {}", d.code, d.segment, d.from_page))
            .collect(),
        files,
    }
}

fn finish(dest: &Path, manifest: &Manifest) -> Result<()> {
    let path = dest.join(MANIFEST);
    let mut bytes =
        serde_json::to_vec_pretty(manifest).map_err(|e| Error::at(Code::Io, &path, "cannot be made").with_source(e))?;
    bytes.push(b'\n');
    write_atomic(&path, &bytes, Access::Public)?;
    let mark = dest.join(INCOMPLETE);
    fs::remove_file(&mark).at("removing", &mark)?;
    sync_dir(dest)
}

#[cfg(test)]
mod tests;
