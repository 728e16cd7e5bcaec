//! A log in memory.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::Medium;
use super::collect::Collect;
use crate::event::Chain;
use crate::log::{DataKey, PAGE_BYTES, SegmentScan, Step, padded_len};
use crate::node::{LogPosition, ReadFault, ReadRequest, WriteFault};
use crate::recovery::RunAt;

/// A log in memory, for tests, fuzzing and as an example of a [`Medium`]. It keeps no index: a read
/// scans from the first page, so it is slow for anything large.
#[derive(Debug)]
pub struct RamMedium {
    /// The segments by number, encrypted, as they would stand on a disk.
    pub segments: BTreeMap<u64, Vec<u8>>,
    /// What to answer to everything that writes, from now on.
    pub fault: Option<WriteFault>,
    keys: [(u32, DataKey); 1],
    segment_bytes: usize,
    max_body: usize,
}

impl RamMedium {
    /// An empty one; the sizes as in [`Limits`](crate::limits::Limits).
    #[must_use]
    pub fn new(key: (u32, DataKey), segment_bytes: usize, group_bytes: usize) -> Self {
        let segments = BTreeMap::new();
        Self { segments, fault: None, keys: [key], segment_bytes, max_body: group_bytes }
    }

    /// Calls `each` with the body of every group, in order, until it says false.
    fn groups(&self, mut each: impl FnMut(&[u8]) -> bool) {
        let mut buf = vec![0; padded_len(self.max_body)];
        for (&number, bytes) in &self.segments {
            let Ok(mut scan) = SegmentScan::new(&self.keys, number, bytes.len() as u64, self.max_body) else { return };
            while let Some(want) = scan.poll_want() {
                let from = bytes.get(want.offset as usize..).unwrap_or_default();
                let n = from.len().min(want.len).min(buf.len());
                buf[..n].copy_from_slice(&from[..n]);
                if let Step::Group { body, .. } = scan.feed(&mut buf[..n])
                    && !each(body)
                {
                    return;
                }
            }
        }
    }
}

impl Medium for RamMedium {
    fn provision(&mut self, segment: u64) -> Result<(), WriteFault> {
        self.fault.map_or(Ok(()), Err)?;
        self.segments.insert(segment, vec![0; self.segment_bytes]);
        Ok(())
    }

    fn append(&mut self, at: LogPosition, bytes: &[u8]) -> Result<(), WriteFault> {
        self.fault.map_or(Ok(()), Err)?;
        let segment = self.segments.get_mut(&at.segment).ok_or(WriteFault::Failed)?;
        let from = at.offset as usize;
        let place = segment.get_mut(from..from + bytes.len()).ok_or(WriteFault::Failed)?;
        debug_assert!(from.is_multiple_of(PAGE_BYTES));
        place.copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _: &mut dyn Iterator<Item = RunAt>) -> Result<(), WriteFault> {
        self.fault.map_or(Ok(()), Err)
    }

    fn read(&mut self, request: &ReadRequest, out: &mut [u8]) -> Result<(Chain, usize), ReadFault> {
        let mut found = Collect::new(request, out);
        self.groups(|body| found.group(body));
        found.finish()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::code::Code;
    use crate::codec::Codecs;
    use crate::id::NodeName;
    use crate::limits::{Config, Limits, Timing};
    use crate::node::{Memory, Node, Setup};
    use crate::policy::{PeerIdentity, Policy, Role};
    use crate::recovery::{Recovered, StreamMemory};
    use crate::time::Now;

    pub(in crate::medium) fn peer(name: &str) -> PeerIdentity {
        let role = if name == "hub" { Role::Hub } else { Role::Clinic };
        PeerIdentity { name: NodeName::new(name).unwrap(), role }
    }

    pub(in crate::medium) fn node(name: &str, role: Role, limits: Limits) -> (Node<'static>, RamMedium) {
        let recovered = Recovered::new(NodeName::new(name).unwrap(), StreamMemory::owned(limits.streams));
        let disk = RamMedium::new((1, DataKey::new([7; 32])), limits.segment_bytes, limits.group_bytes);
        (node_of(recovered, name, role, limits, 1), disk)
    }

    /// `boot`: no two starts of a node draw the same.
    pub(in crate::medium) fn node_of(
        recovered: Recovered<'static>,
        name: &str,
        role: Role,
        limits: Limits,
        boot: u8,
    ) -> Node<'static> {
        let config = Config {
            name: NodeName::new(name).unwrap(),
            role,
            digest_from: crate::limits::DIGEST_FROM,
            deployment: 1,
            policy: Policy::Own,
            fingerprint: 1,
            hlc_bound_ms: 600_000,
            hlc_tick_ms: 1,
            wall_floor_ms: 0,
            accept_bytes: 0,
            timing: Timing::default(),
        };
        let key = (1, DataKey::new([7; 32]));
        let mut seed = [name.len() as u8; 32];
        seed[0] = boot;
        let setup = Setup { config, limits, memory: Memory::owned(&limits), codecs: Codecs::default(), key, seed };
        Node::new(setup, recovered, Now::new(0, 0)).unwrap()
    }

    #[test]
    fn a_disk_that_fails_is_told_and_driven_no_further() {
        use crate::id::Lane;
        use crate::medium::drive;
        let now = Now::new(1, 1);
        let (mut node, mut disk) = node("clinic_a", Role::Clinic, Limits::leaf());
        drive(&mut node, &mut disk, || now);
        let ticket = node.append(now, Lane::Normal, 0, b"kept").unwrap();
        drive(&mut node, &mut disk, || now);
        assert_eq!(node.durable_group(), ticket.group);
        node.append(now, Lane::Normal, 0, b"lost").unwrap();
        disk.fault = Some(WriteFault::Failed);
        drive(&mut node, &mut disk, || now);
        assert_eq!(node.storage_failed(), Some(Code::Storage));
        assert_eq!(node.durable_group(), ticket.group);
    }
}
