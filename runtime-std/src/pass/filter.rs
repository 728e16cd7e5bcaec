//! Which events are wanted.

use ropeway_core::event::Event;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::policy::{Policy, Principal, authorize};

/// Which events are wanted. The default lets everything through; an empty list is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of these nodes.
    pub nodes: Vec<NodeName>,
    /// Of these lanes.
    pub lanes: Vec<Lane>,
    /// Of these kinds.
    pub kinds: Vec<u16>,
    /// Stamped at this millisecond since 1970 or later.
    pub since_ms: Option<u64>,
    /// Stamped before this millisecond since 1970.
    pub until_ms: Option<u64>,
    /// With this sequence number or a higher one.
    pub from_seq: u64,
}

impl Filter {
    /// Whether a stream may hold anything that is wanted, and its owner may read it.
    #[must_use]
    pub fn wants_stream(&self, key: &StreamKey) -> bool {
        let named = self.nodes.is_empty() || self.nodes.contains(&key.node);
        let laned = self.lanes.is_empty() || self.lanes.contains(&key.lane);
        named && laned && authorize(Policy::Own, Principal::Owner, key).read.is_some()
    }

    /// Whether an event of a wanted stream is wanted.
    #[must_use]
    pub fn wants(&self, seq: u64, event: &Event<'_>) -> bool {
        let ms = event.hlc.ms();
        seq >= self.from_seq
            && (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.since_ms.is_none_or(|t| ms >= t)
            && self.until_ms.is_none_or(|t| ms < t)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ropeway_core::hlc::Hlc;
    use ropeway_core::id::Incarnation;

    #[test]
    fn each_condition_counts_and_an_empty_one_does_not() {
        let name = |n| NodeName::new(n).unwrap();
        let key = StreamKey { node: name("a"), incarnation: Incarnation::new(1), lane: Lane::Normal };
        let event = Event { hlc: Hlc::new(1_000, 5), kind: 7, flags: 0, payload: b"" };
        let all = Filter::default();
        assert!(all.wants_stream(&key) && all.wants(1, &event));
        let one = |f: fn(&mut Filter)| {
            let mut filter = Filter::default();
            f(&mut filter);
            filter.wants_stream(&key) && filter.wants(4, &event)
        };
        assert!(one(|f| f.kinds = vec![3, 7]) && !one(|f| f.kinds = vec![3]));
        assert!(one(|f| f.lanes = vec![Lane::Bulk, Lane::Normal]) && !one(|f| f.lanes = vec![Lane::Bulk]));
        assert!(one(|f| f.since_ms = Some(1_000)) && !one(|f| f.since_ms = Some(1_001)));
        assert!(one(|f| f.until_ms = Some(1_001)) && !one(|f| f.until_ms = Some(1_000)));
        assert!(one(|f| f.from_seq = 4) && !one(|f| f.from_seq = 5));
        assert!(!Filter { nodes: vec![name("b")], ..Filter::default() }.wants_stream(&key));
    }
}
