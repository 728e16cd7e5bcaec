//! A node with its log, its identity and everything that a runtime makes of a directory, but for sockets and
//! clocks: time comes from outside.

use std::collections::BTreeMap;
use std::path::Path;

use ropeway_core::codec::Codecs;
use ropeway_core::event::Records;
use ropeway_core::id::{Lane, NodeName, StreamKey};
use ropeway_core::limits::Limits;
use ropeway_core::node::{AppendError, Effect, Node, ReadFault, ReadRequest, Transmit};
use ropeway_core::policy::{PeerIdentity, Role};
use ropeway_core::time::Now;
use ropeway_std::dir::DirLock;
use ropeway_std::replica::{Prepared, identity, prepare};
use ropeway_std::sign::{SignOptions, sign};
use ropeway_std::store::Store;
use ropeway_std::tls::Clock;
use ropeway_std::zstd_codec::codecs;
use ropeway_std::{DataDir, NodeIdentity, Options, keygen};

use crate::Result;

/// When virtual time begins, in seconds since 1970: 1 July 2026.
pub(crate) const EPOCH_S: u64 = 1_782_864_000;
/// What the certificates are dated by.
pub(crate) const CLOCK: Clock = Clock::Fixed(EPOCH_S);
/// Sessions of a hub at once, as the daemon has them.
const HUB_SESSIONS: usize = 256;

/// Both clocks of a node at a moment of virtual time.
pub(crate) fn now(us: u64) -> Now {
    Now::new(us / 1_000, EPOCH_S * 1_000 + us / 1_000)
}

/// Makes a hub in a folder of this name, with a CA.
pub(crate) fn make_hub(home: &Path, clock: Clock) -> Result<DataDir> {
    let dir = DataDir::new(home.join("hub"));
    loop {
        let file = keygen::init_hub(&dir, name("hub")?, clock)?;
        // Its number is drawn, and crosses the wire as a varint: only the longer half of them is used, so that the
        // same session costs the same bytes each time.
        if file.deployment.is_none_or(|d| d.0[0] >= 0x80) {
            return Ok(dir);
        }
        std::fs::remove_dir_all(dir.root())?;
    }
}

/// Makes a clinic in a folder of its name, signed by the hub.
pub(crate) fn make_clinic(home: &Path, hub: &DataDir, clinic: &str, clock: Clock) -> Result<DataDir> {
    let dir = DataDir::new(home.join(clinic));
    keygen::init_node(&dir, name(clinic)?)?;
    sign(&dir.node_csr(), hub, &SignOptions { clock, ..SignOptions::default() })?;
    Ok(dir)
}

fn name(name: &str) -> Result<NodeName> {
    NodeName::new(name).map_err(|e| format!("{name}: {e}").into())
}

/// What a node compresses with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As in the field: the model where the link is slow, else zstd.
    Model,
    /// zstd with history.
    Zstd,
    /// Nothing.
    Stored,
}

/// What a node has otherwise than in the field.
#[derive(Default)]
pub(crate) struct Wish {
    /// Another name than in its certificate.
    pub(crate) name: Option<NodeName>,
    pub(crate) limits: Option<Limits>,
    pub(crate) codecs: Option<Codecs<'static>>,
}

/// A node at work.
pub(crate) struct Host {
    pub(crate) node: Node<'static>,
    pub(crate) identity: NodeIdentity,
    store: Store,
    records: Vec<u8>,
    /// For one frame.
    pub(crate) out: Vec<u8>,
    _lock: DirLock,
}

impl Host {
    /// Opens the node of `dir`, with the sizes that its role has in the field.
    pub(crate) fn open(dir: &DataDir, us: u64) -> Result<Self> {
        Self::open_packing(dir, us, Packing::Model)
    }

    /// As [`Host::open`], with these codecs.
    pub(crate) fn open_packing(dir: &DataDir, us: u64, packing: Packing) -> Result<Self> {
        let codecs = match packing {
            Packing::Model => None,
            Packing::Zstd => Some(codecs(0, None)),
            Packing::Stored => Some(Codecs::default()),
        };
        Self::open_with(dir, us, Wish { codecs, ..Wish::default() })
    }

    /// As [`Host::open`], small, and by another name than its certificate has: for sessions without TLS.
    pub(crate) fn open_as(dir: &DataDir, us: u64, other: &str) -> Result<Self> {
        Self::open_with(dir, us, Wish { name: Some(name(other)?), limits: Some(Limits::leaf()), codecs: None })
    }

    /// As [`Host::open`], but for what is wished otherwise.
    pub(crate) fn open_with(dir: &DataDir, us: u64, wish: Wish) -> Result<Self> {
        let lock = DirLock::acquire(dir)?;
        let (identity, mut file) = identity(dir)?;
        file.name = wish.name.unwrap_or(file.name);
        let usual = if file.role == Role::Hub { Limits::hub(HUB_SESSIONS) } else { Limits::clinic() };
        let mut options = Options { limits: wish.limits.unwrap_or(usual), ..Options::default() };
        if wish.codecs.is_some() {
            options.model_states = 0;
        }
        let Prepared { mut setup, recovered, store, .. } = prepare(dir, &file, &options)?;
        setup.codecs = wish.codecs.unwrap_or(setup.codecs);
        let node = Node::new(setup, recovered, now(us))?;
        let out = vec![0; node.limits().frame_bytes + 64];
        let mut host = Self { node, identity, store, records: Vec::new(), out, _lock: lock };
        host.drive(us)?;
        Ok(host)
    }

    /// Lets the disk do all that there is to do; in virtual time it takes none. True if there was anything.
    pub(crate) fn drive(&mut self, us: u64) -> Result<bool> {
        let mut moved = false;
        loop {
            let done = match self.node.poll_effect(now(us)) {
                None => break,
                Some(Effect::Provision { segment }) => Some(self.store.provision(segment)),
                Some(Effect::Read(request)) => {
                    self.answer(us, &request);
                    None
                }
                Some(Effect::Append { at, bytes, .. }) => self.store.append(at, bytes),
                Some(Effect::Sync { upto }) => {
                    let runs: Vec<_> = self.node.runs_in_flight().collect();
                    Some(self.store.sync(upto, &runs))
                }
            };
            moved = true;
            if let Some(done) = done {
                self.node.complete(now(us), done);
            }
        }
        match self.node.storage_failed() {
            Some(code) => Err(format!("the log of a node: {code}").into()),
            None => Ok(moved),
        }
    }

    /// Takes an event; it is durable after the next [`Host::drive`].
    pub(crate) fn append(&mut self, us: u64, lane: Lane, kind: u16, payload: &[u8]) -> Result<()> {
        for _ in 0..4 {
            match self.node.append(now(us), lane, kind, payload) {
                Ok(_) => return Ok(()),
                Err(AppendError::Busy) => self.drive(us)?,
                Err(e) => return Err(format!("an event of {} bytes: {}", payload.len(), e.code()).into()),
            };
        }
        Err("the log takes no event".into())
    }

    /// Answers a read that a session asked for.
    pub(crate) fn answer(&mut self, us: u64, request: &ReadRequest) -> Transmit {
        let chain = self.store.read_records(request, &mut self.records);
        let records = chain
            .map(|prev_chain| Records { first_seq: request.from_seq, prev_chain, bytes: &self.records })
            .map_err(|e| ReadFault(e.code));
        self.node.complete_read(now(us), request, records, &mut self.out)
    }

    /// Who it is for a peer that has no certificate of it.
    pub(crate) fn peer(&self) -> PeerIdentity {
        PeerIdentity { name: self.identity.name(), role: self.identity.role() }
    }

    /// How far it holds each stream of a node, durably.
    pub(crate) fn held(&self, of: &str) -> BTreeMap<StreamKey, u64> {
        self.node.frontier().filter(|e| e.key.node.as_str() == of).map(|e| (e.key, e.have)).collect()
    }
}

/// Brings two nodes up to date with each other, without TLS and without a link. `clinic` is the first one's name.
pub(crate) fn meet(first: &mut Host, clinic: &str, hub: &mut Host, us: u64) -> Result<()> {
    let peers = [hub.peer(), PeerIdentity { name: name(clinic)?, role: Role::Clinic }];
    let hosts = [first, hub];
    let mut sessions = Vec::new();
    for (e, peer) in peers.into_iter().enumerate() {
        sessions.push(hosts[e].node.open(now(us), peer).map_err(|e| e.code().to_string())?);
    }
    hosts[0].node.finish(now(us), sessions[0]);
    let mut over = [false; 2];
    // Acknowledgements that wait for company go when time passes.
    for us in (us..).step_by(1_000).take(100_000) {
        for e in 0..2 {
            while !over[e] {
                hosts[e].node.timeout(now(us));
                hosts[e].drive(us)?;
                while hosts[e].node.poll_event().is_some() {}
                let mut out = std::mem::take(&mut hosts[e].out);
                let said = match hosts[e].node.poll_transmit(now(us), sessions[e], &mut out) {
                    Ok(Transmit::Read(request)) => {
                        hosts[e].out = out;
                        let packed = hosts[e].answer(us, &request);
                        out = std::mem::take(&mut hosts[e].out);
                        packed
                    }
                    Ok(said) => said,
                    Err(_) => Transmit::Close,
                };
                match said {
                    Transmit::Bytes(n) => {
                        let mut rest = &out[..n];
                        while !rest.is_empty() {
                            hosts[1 - e].drive(us)?;
                            let Ok(got) = hosts[1 - e].node.receive(now(us), sessions[1 - e], rest) else { break };
                            rest = &rest[got.consumed..];
                        }
                    }
                    Transmit::Close => over[e] = true,
                    Transmit::Idle | Transmit::Read(_) => {
                        hosts[e].out = out;
                        break;
                    }
                }
                hosts[e].out = out;
            }
        }
        if over == [true; 2] {
            for e in 0..2 {
                hosts[e].node.close(now(us), sessions[e]);
                while hosts[e].node.poll_event().is_some() {}
                hosts[e].drive(us)?;
            }
            return Ok(());
        }
    }
    Err("two nodes never come to an end".into())
}
