//! What was removed from the log on purpose (docs/LOG.md#stub-1).

use super::Node;
use crate::event::Chain;
use crate::id::StreamKey;
use crate::streams::Position;

impl Node<'_> {
    /// Says that the log no longer holds the events of `key` up to `seq`, whose chain hash is `chain`. They
    /// are not sent any more; numbers go on, and so does what peers acknowledge. A stream that is not held
    /// so far is left alone.
    pub fn expired(&mut self, key: &StreamKey, seq: u64, chain: Chain) {
        if let Some(s) = self.streams.find(key).and_then(|n| self.streams.at_mut(n)) {
            s.raise_floor(Position { seq, chain });
        }
    }
}
