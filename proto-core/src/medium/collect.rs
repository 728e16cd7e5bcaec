//! Picking the events of a [`ReadRequest`] out of groups that are read in order.

use crate::code::Code;
use crate::event::{Chain, RECORD_HEAD_BYTES, put_record};
use crate::log::{Record, records};
use crate::node::{ReadFault, ReadRequest};
use crate::varint::Writer;

/// What was found so far.
pub(super) struct Collect<'r, 'o> {
    request: &'r ReadRequest,
    out: Writer<'o>,
    payload_bytes: usize,
    next_seq: u64,
    before: Option<Chain>,
}

impl<'r, 'o> Collect<'r, 'o> {
    /// Records go to `out`.
    pub(super) fn new(request: &'r ReadRequest, out: &'o mut [u8]) -> Self {
        Self { request, out: Writer::new(out), payload_bytes: 0, next_seq: request.from_seq, before: None }
    }

    /// Takes what is wanted from a group; false once there is enough.
    pub(super) fn group(&mut self, body: &[u8]) -> bool {
        let mut wanted = None;
        for record in records(body).map_while(Result::ok) {
            let run = match record {
                Record::Stream(decl) if decl.key == *self.request.grant.stream() => {
                    wanted = Some(decl.index);
                    continue;
                }
                Record::Events(run) if Some(run.index) == wanted => run,
                _ => continue,
            };
            let mut chain = run.prev_chain;
            for (e, seq) in run.events().zip(run.base_seq..) {
                if seq == self.next_seq && seq <= self.request.upto_seq {
                    self.payload_bytes += e.payload.len();
                    let enough = self.before.is_some() && self.payload_bytes > self.request.bytes;
                    if enough || put_record(&mut self.out, &e).is_err() {
                        return false;
                    }
                    self.before.get_or_insert(chain);
                    self.next_seq += 1;
                }
                chain = chain.then(&e);
            }
        }
        self.next_seq <= self.request.upto_seq
    }

    /// The first event that was not found.
    pub(super) fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The chain hash before the first event, and the bytes of all.
    pub(super) fn finish(self) -> Result<(Chain, usize), ReadFault> {
        debug_assert!(self.out.len() >= (self.next_seq - self.request.from_seq) as usize * RECORD_HEAD_BYTES);
        self.before.map(|chain| (chain, self.out.len())).ok_or(ReadFault(Code::Corrupt))
    }
}
