//! Who may read and write what: one function, and grants that only it can make.
//!
//! **Invariant:** every path by which an event's bytes, name or count leaves this node, and every
//! path by which an event enters its log, takes a grant. There is no other constructor.

use core::str::FromStr;

use crate::code::Code;
use crate::id::{NodeName, StreamKey};
use crate::planted::{Bug, has};

/// What kind of certificate a node holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Client authentication only: writes its own streams, reads what the policy allows.
    Clinic,
    /// May also serve: relays and reads every stream.
    Hub,
}

/// A peer as its verified certificate names it. Nothing that the peer says in the session can
/// change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct PeerIdentity {
    /// Its node name.
    pub name: NodeName,
    /// Its kind of certificate.
    pub role: Role,
}

/// What a clinic may read at this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Policy {
    /// Its own streams.
    #[default]
    Own,
    /// Every stream.
    All,
}

impl FromStr for Policy {
    type Err = Code;
    fn from_str(s: &str) -> Result<Self, Code> {
        match s {
            "own" => Ok(Policy::Own),
            "all" => Ok(Policy::All),
            _ => Err(Code::BadArgument),
        }
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal<'a> {
    /// A process that holds the data directory's key: it may do everything.
    Owner,
    /// A peer in a session.
    Peer(&'a PeerIdentity),
}

/// Permission to read one stream: its events, its name, how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadGrant {
    stream: StreamKey,
}

/// Permission to add events to one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteGrant {
    stream: StreamKey,
}

/// What a principal may do with one stream. Either part may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grants {
    /// May learn of it and read it.
    pub read: Option<ReadGrant>,
    /// May add to it.
    pub write: Option<WriteGrant>,
}

impl ReadGrant {
    /// The stream that may be read.
    #[must_use]
    pub fn stream(&self) -> &StreamKey {
        &self.stream
    }
}

impl WriteGrant {
    /// The stream that may be written.
    #[must_use]
    pub fn stream(&self) -> &StreamKey {
        &self.stream
    }
}

/// The one decision (docs/PROTOCOL.md#policy-1): depends on who asks, the policy and the stream's
/// key, never on whether the stream exists, so that the answer discloses nothing.
#[must_use]
pub fn authorize(policy: Policy, who: Principal<'_>, stream: &StreamKey) -> Grants {
    let (read, write) = match who {
        Principal::Owner => (true, true),
        Principal::Peer(peer) => {
            let own = peer.name == stream.node;
            let hub = peer.role == Role::Hub;
            let read = own || hub || policy == Policy::All || has(Bug::ReadUnauthorized);
            (read, own || hub || has(Bug::WriteUnauthorized))
        }
    };
    Grants {
        read: read.then_some(ReadGrant { stream: *stream }),
        write: write.then_some(WriteGrant { stream: *stream }),
    }
}

/// Whether [`authorize`] would let `peer` read any stream there may be. Only a short cut: it decides
/// whether all streams or only the peer's own are put to `authorize`.
pub(crate) fn reads_everything(policy: Policy, peer: &PeerIdentity) -> bool {
    peer.role == Role::Hub || policy == Policy::All || has(Bug::ReadUnauthorized)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Incarnation, Lane};

    #[test]
    fn each_row_of_the_policy_table() {
        let peer = |name, role| PeerIdentity { name: NodeName::new(name).unwrap(), role };
        let stream = StreamKey {
            node: NodeName::new("clinic_a").unwrap(),
            incarnation: Incarnation::new(1),
            lane: Lane::Normal,
        };
        let (a, b, hub) = (peer("clinic_a", Role::Clinic), peer("clinic_b", Role::Clinic), peer("hub", Role::Hub));
        let rows = [
            (Principal::Owner, Policy::Own, true, true),
            (Principal::Peer(&a), Policy::Own, true, true),
            (Principal::Peer(&b), Policy::Own, false, false),
            (Principal::Peer(&b), Policy::All, true, false),
            (Principal::Peer(&hub), Policy::Own, true, true),
        ];
        for (who, policy, read, write) in rows {
            let g = authorize(policy, who, &stream);
            assert_eq!((g.read.is_some(), g.write.is_some()), (read, write), "{who:?} {policy:?}");
        }
    }
}
