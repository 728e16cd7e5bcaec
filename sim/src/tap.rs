//! An independent decoder of every byte that a node sends.

use ropeway_core::code::Code;
use ropeway_core::codec::CodecId;
use ropeway_core::codec::toy::Toy;
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{NodeName, StreamKey};
use ropeway_core::varint::Reader;
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
    /// The stream that the receiver calls by this handle is durable up to there.
    Ack(u32, u64),
    /// An error code.
    Error(u16),
    /// Another control frame.
    Control(FrameType),
    /// It does not decode.
    Nonsense(String),
}

/// Listens to one direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    bytes: Vec<u8>,
    pub(crate) handles: Vec<StreamKey>,
}

impl Tap {
    /// Takes what was sent; tells the frames that are whole.
    pub(crate) fn hear(&mut self, bytes: &[u8], sender: &NodeName, receiver: &NodeName) -> Vec<Said> {
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

    fn batch(&self, body: &[u8]) -> Said {
        let mut r = Reader::new(body);
        let mut raw = Vec::new();
        let parsed = BatchHead::parse(&mut r, 1 << 20).and_then(|head| {
            match head.codec {
                CodecId::STORED => raw.extend_from_slice(r.rest()),
                CodecId::ZSTD_HISTORY | CodecId::MODEL => {
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
