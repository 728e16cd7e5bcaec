//! An independent decoder of every byte that a node sends.

use std::collections::BTreeMap;

use ropeway_core::code::Code;
use ropeway_core::codec::CodecId;
use ropeway_core::codec::toy::Toy;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::varint::{Reader, Writer};
use ropeway_core::wire::batch::{BatchHead, Columns};
use ropeway_core::wire::frame::{FrameHead, FrameType};
use ropeway_core::wire::vector::Entry;

use crate::shadow::noted;
use crate::truth::fingerprint;

/// Something that was said on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A stream and how far the sender holds it.
    Entry(StreamKey, u64),
    /// Events, as their fingerprints; the flag asks for an acknowledgement at once.
    Batch {
        /// The stream.
        key: StreamKey,
        /// Number of the first event.
        first: u64,
        /// Fingerprints and stamps of the events.
        events: Vec<(u64, Hlc)>,
    },
    /// A part of a batch that is not whole with it.
    Part {
        /// The stream.
        key: StreamKey,
        /// Number of the batch's first event.
        first: u64,
        /// Where in the batch the part begins, and how long the batch is.
        at: (usize, usize),
    },
    /// Events that are not sent, from the first to the last.
    Withheld(StreamKey, u64, u64),
    /// The stream that the receiver calls by this handle is durable up to there.
    Ack(u32, u64),
    /// An error code.
    Error(u16),
    /// Another control frame.
    Control(FrameType),
    /// It does not decode.
    Nonsense(String),
}

/// What was sent of large batches so far, over all connections, by their tags.
pub(crate) type Parcels = BTreeMap<[u8; 8], Vec<u8>>;

/// Listens to one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    bytes: Vec<u8>,
    pub(crate) handles: Vec<StreamKey>,
}

impl Tap {
    /// Takes what was sent; tells the frames that are whole.
    pub(crate) fn hear(
        &mut self,
        bytes: &[u8],
        (sender, receiver): (&NodeName, &NodeName),
        parcels: &mut Parcels,
    ) -> Vec<Said> {
        self.bytes.extend_from_slice(bytes);
        let mut said = Vec::new();
        loop {
            let head = match FrameHead::parse(&self.bytes, 1 << 20) {
                Ok(Some(h)) if self.bytes.len() >= h.head_bytes + h.body_bytes => h,
                Ok(_) => return said,
                Err(code) => {
                    said.push(Said::Nonsense(code.to_string()));
                    return said;
                }
            };
            let frame: Vec<u8> = self.bytes.drain(..head.head_bytes + head.body_bytes).collect();
            let body = &frame[head.head_bytes..];
            match head.kind {
                Some(FrameType::Vector) => {
                    let mut r = Reader::new(body);
                    while !r.is_empty() {
                        match Entry::parse(&mut r, sender, receiver) {
                            Ok(e) => {
                                self.handles.push(e.key);
                                said.push(Said::Entry(e.key, e.seq));
                            }
                            Err(code) => {
                                said.push(Said::Nonsense(code.to_string()));
                                break;
                            }
                        }
                    }
                }
                Some(FrameType::Batch) => said.push(self.batch(body)),
                Some(FrameType::Part) => {
                    said.push(self.part(body, parcels).unwrap_or_else(|why| Said::Nonsense(why.to_string())));
                }
                Some(FrameType::Withheld) => {
                    said.push(self.withheld(body).unwrap_or_else(|why| Said::Nonsense(why.to_string())));
                }
                Some(FrameType::Ack) => {
                    let mut r = Reader::new(body);
                    while let (Ok(handle), Ok(seq)) = (r.varint(), r.varint()) {
                        said.push(Said::Ack(handle as u32, seq));
                    }
                }
                Some(FrameType::Error) => {
                    let code = Reader::new(body).varint().unwrap_or_default();
                    said.push(Said::Error(code as u16));
                }
                Some(kind) => said.push(Said::Control(kind)),
                None => said.push(Said::Nonsense("unknown frame".into())),
            }
        }
    }

    /// A part of a batch. It must follow what was sent of that batch before, here or on an earlier connection.
    fn part(&self, body: &[u8], parcels: &mut Parcels) -> Result<Said, Code> {
        let mut r = Reader::new(body);
        let (handle, first, total) = (r.varint()?, r.varint()?, r.varint()? as usize);
        let (tag, offset): ([u8; 8], usize) = (r.array()?, r.varint()? as usize);
        let key = *self.handles.get(handle as usize).ok_or(Code::State)?;
        let known = parcels.entry(tag).or_default();
        let (end, both) = (offset + r.rest().len(), known.len().saturating_sub(offset).min(r.rest().len()));
        if offset > known.len() || end > total || known[offset..offset + both] != r.rest()[..both] {
            return Err(Code::State);
        }
        known.extend_from_slice(&r.rest()[both..]);
        if end < total {
            return Ok(Said::Part { key, first, at: (offset, total) });
        }
        let mut body = vec![0; 10];
        let mut w = Writer::new(&mut body);
        w.varint(handle).map_err(|_| Code::Malformed)?;
        let n = w.len();
        body.truncate(n);
        Ok(self.batch(&[body.as_slice(), known].concat()))
    }

    fn withheld(&self, body: &[u8]) -> Result<Said, Code> {
        let mut r = Reader::new(body);
        let (handle, first, count) = (r.varint()?, r.varint()?, r.varint()?);
        let (_stamp, _kind, flags) = (r.u64()?, r.varint()?, r.u8()?);
        match r.u8()? {
            0 => {}
            1 | 2 => _ = r.array::<32>()?,
            _ => return Err(Code::Malformed),
        }
        let (_bytes, code) = (r.varint()?, r.varint()?);
        let key = *self.handles.get(handle as usize).ok_or(Code::State)?;
        let known = Code::from_u16(code as u16).is_some() && flags < 2 && count > 0;
        if known && r.is_empty() { Ok(Said::Withheld(key, first, first + count - 1)) } else { Err(Code::Malformed) }
    }

    fn batch(&self, body: &[u8]) -> Said {
        let mut r = Reader::new(body);
        let mut raw = Vec::new();
        let parsed = BatchHead::parse(&mut r, 1 << 20).and_then(|head| {
            match head.codec {
                CodecId::STORED => raw.extend_from_slice(r.rest()),
                CodecId::ZSTD_HISTORY | CodecId::MODEL | CodecId::SAMPLED => {
                    let read = noted(r.rest()).or_else(|| Toy::unpack(r.rest(), head.raw_bytes));
                    raw = read.ok_or(Code::BadBatch)?;
                }
                _ => return Err(Code::BadBatch),
            }
            let columns = Columns::parse(&raw, &head, 1 << 20)?;
            Ok((head, columns))
        });
        match parsed {
            Ok((head, columns)) => match self.handles.get(head.handle as usize) {
                Some(key) => {
                    let events = columns.iter().map(|e| (fingerprint(e.kind, e.payload), e.hlc)).collect();
                    Said::Batch { key: *key, first: head.first_seq, events }
                }
                None => Said::Nonsense("batch of a stream that was not told".into()),
            },
            Err(code) => Said::Nonsense(code.to_string()),
        }
    }
}
