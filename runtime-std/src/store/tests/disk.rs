//! A disk in memory that knows what is durable, and stops after a number of calls that change it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use ropeway_core::code::Code;

use super::super::{Files, SideFile};
use crate::error::{Error, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Hot(u64),
    Side(SideFile),
}

#[derive(Clone, Debug, Default)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<Name, usize>,
    durable_names: BTreeMap<Name, usize>,
    /// Calls that still succeed; then all that change anything fail.
    left: Option<usize>,
    calls: usize,
    reads: u64,
}

/// See the [module](self). A clone is a copy.
#[derive(Debug, Default)]
pub(super) struct Disk(Rc<RefCell<State>>);

impl Clone for Disk {
    fn clone(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
}

impl Disk {
    pub(super) fn mount(&self) -> Mount {
        Mount(Rc::clone(&self.0))
    }

    pub(super) fn hot(&self) -> Vec<u64> {
        self.mount().list().unwrap()
    }

    pub(super) fn sealed(&self) -> Vec<u64> {
        self.mount().list_sealed().unwrap()
    }

    pub(super) fn names(&self) -> Vec<Name> {
        self.0.borrow().names.keys().copied().collect()
    }

    /// Everything that is on the disk.
    pub(super) fn bytes(&self) -> BTreeMap<Name, Vec<u8>> {
        let s = self.0.borrow();
        s.names.iter().map(|(n, i)| (*n, s.inodes[*i].cached.clone())).collect()
    }

    pub(super) fn len(&self, name: Name) -> usize {
        self.bytes()[&name].len()
    }

    /// Bytes that were read so far.
    pub(super) fn reads(&self) -> u64 {
        self.0.borrow().reads
    }

    /// From here on so many calls succeed.
    pub(super) fn stop_after(&self, calls: usize) {
        self.0.borrow_mut().left = Some(calls);
    }

    /// Calls so far that changed something.
    pub(super) fn calls(&self) -> usize {
        self.0.borrow().calls
    }

    /// The disk as the next process finds it: after a power cut only what was synced is there.
    pub(super) fn after(&self, power_cut: bool) -> Disk {
        let mut s = self.0.borrow().clone();
        s.left = None;
        if power_cut {
            s.names.clone_from(&s.durable_names);
            s.inodes.iter_mut().for_each(|i| i.cached.clone_from(&i.durable));
        }
        Disk(Rc::new(RefCell::new(s)))
    }

    pub(super) fn alter(&self, name: Name, change: impl FnOnce(&mut Vec<u8>)) {
        let mut s = self.0.borrow_mut();
        let i = s.names[&name];
        change(&mut s.inodes[i].cached);
        s.inodes[i].durable = s.inodes[i].cached.clone();
    }

    pub(super) fn put(&self, name: Name, bytes: &[u8]) {
        let mut s = self.0.borrow_mut();
        s.inodes.push(Inode { cached: bytes.to_vec(), durable: bytes.to_vec() });
        let i = s.inodes.len() - 1;
        s.names.insert(name, i);
        s.durable_names.insert(name, i);
    }

    pub(super) fn remove(&self, name: Name) {
        let mut s = self.0.borrow_mut();
        s.names.remove(&name);
        s.durable_names.remove(&name);
    }
}

/// A [`Disk`] as a store sees it.
#[derive(Debug)]
pub(super) struct Mount(Rc<RefCell<State>>);

impl Mount {
    fn change<T>(&mut self, f: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut s = self.0.borrow_mut();
        if let Some(left) = &mut s.left {
            *left = left.checked_sub(1).ok_or_else(|| Error::new(Code::Io, "the process has ended"))?;
        }
        s.calls += 1;
        Ok(f(&mut s))
    }

    fn read(&self, name: Name, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut s = self.0.borrow_mut();
        let i = *s.names.get(&name).ok_or_else(|| Error::new(Code::Io, format!("{name:?} is not there")))?;
        let bytes = &s.inodes[i].cached;
        let at = (offset as usize).min(bytes.len());
        let n = buf.len().min(bytes.len() - at);
        buf[..n].copy_from_slice(&bytes[at..at + n]);
        s.reads += n as u64;
        Ok(n)
    }

    fn size(&self, name: Name) -> Option<u64> {
        let s = self.0.borrow();
        s.names.get(&name).map(|i| s.inodes[*i].cached.len() as u64)
    }

    fn numbers(&self, f: impl Fn(&Name) -> Option<u64>) -> Vec<u64> {
        self.0.borrow().names.keys().filter_map(f).collect()
    }
}

fn put(s: &mut State, name: Name, offset: u64, bytes: &[u8]) {
    let i = s.names[&name];
    let (file, end) = (&mut s.inodes[i].cached, offset as usize + bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    file[offset as usize..end].copy_from_slice(bytes);
}

fn sync(s: &mut State, name: Name) {
    let i = s.names[&name];
    s.inodes[i].durable = s.inodes[i].cached.clone();
}

const UNFINISHED: Name = Name::Side(SideFile::Unfinished);

impl Files for Mount {
    fn list(&mut self) -> Result<Vec<u64>> {
        Ok(self.numbers(|n| if let Name::Hot(n) = n { Some(*n) } else { None }))
    }
    fn len(&mut self, segment: u64) -> Result<u64> {
        self.size(Name::Hot(segment)).ok_or_else(|| Code::Io.into())
    }
    fn read_at(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read(Name::Hot(segment), offset, buf)
    }
    fn read_stable(&mut self, segment: u64, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read(Name::Hot(segment), offset, buf).map(|_| ())
    }
    fn provision(&mut self, segment: u64, bytes: u64) -> Result<()> {
        self.change(|s| {
            let zeros = vec![0; bytes as usize];
            s.inodes.push(Inode { cached: zeros.clone(), durable: zeros });
            let i = s.inodes.len() - 1;
            s.names.insert(Name::Hot(segment), i);
            s.durable_names.insert(Name::Hot(segment), i);
        })
    }
    fn write_at(&mut self, segment: u64, offset: u64, bytes: &[u8]) -> Result<()> {
        self.change(|s| put(s, Name::Hot(segment), offset, bytes))
    }
    fn sync(&mut self, segment: u64) -> Result<()> {
        self.change(|s| sync(s, Name::Hot(segment)))
    }
    fn sync_list(&mut self) -> Result<()> {
        self.change(|s| s.durable_names.clone_from(&s.names))
    }
    fn describe(&self, segment: u64) -> PathBuf {
        PathBuf::from(format!("segment {segment}"))
    }
    fn list_sealed(&mut self) -> Result<Vec<u64>> {
        Ok(self.numbers(|n| if let Name::Side(SideFile::Sealed(n)) = n { Some(*n) } else { None }))
    }
    fn remove(&mut self, segment: u64) -> Result<()> {
        self.change(|s| s.names.remove(&Name::Hot(segment)).map(|_| ()))?.ok_or_else(|| Code::Io.into())
    }
    fn side_len(&mut self, file: SideFile) -> Result<Option<u64>> {
        Ok(self.size(Name::Side(file)))
    }
    fn read_side(&mut self, file: SideFile, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.read(Name::Side(file), offset, buf)
    }
    fn write_unfinished(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.change(|s| {
            if offset == 0 {
                s.inodes.push(Inode::default());
                let i = s.inodes.len() - 1;
                s.names.insert(UNFINISHED, i);
            }
            put(s, UNFINISHED, offset, bytes);
        })
    }
    fn sync_unfinished(&mut self) -> Result<()> {
        self.change(|s| sync(s, UNFINISHED))
    }
    fn name_unfinished(&mut self, file: SideFile) -> Result<()> {
        self.change(|s| {
            if let Some(i) = s.names.remove(&UNFINISHED) {
                s.names.insert(Name::Side(file), i);
            }
        })
    }
    fn remove_side(&mut self, file: SideFile) -> Result<()> {
        self.change(|s| s.names.remove(&Name::Side(file)).map(|_| ())).map(|_| ())
    }
}
