//! A peer with a good certificate that says anything.

use ropeway_core::id::NodeName;
use ropeway_core::node::{Flow, Transmit};
use ropeway_core::policy::{PeerIdentity, Policy, Role};

use crate::host::HOSTILE;
use crate::world::World;

/// Most bytes that are said in one attack.
const ATTACK_BYTES: usize = 8 << 10;

impl World {
    /// Opens a session at the hub and says what another clinic once said, cut, repeated and altered.
    /// It is sent nothing that names another clinic, and whatever it says becomes nobody else's event.
    pub(crate) fn attack(&mut self) -> bool {
        let now = self.hosts[0].now(self.now_us);
        let Ok(name) = NodeName::new(HOSTILE) else { return false };
        let peer = PeerIdentity { name, role: Role::Clinic };
        if self.hosts[0].frozen {
            return false;
        }
        let Some(id) = self.open_session(0, peer) else { return false };
        let mut bytes = self.overheard.clone();
        for _ in 0..self.rng.below(8) {
            let Some(last) = bytes.len().checked_sub(1) else { break };
            let at = self.rng.below(last as u64 + 1) as usize;
            match self.rng.below(4) {
                0 => bytes[at] ^= 1 << self.rng.below(8),
                1 => bytes.truncate(at),
                2 => {
                    let end = (at + self.rng.between(1, 300) as usize).min(bytes.len());
                    bytes.extend_from_within(at..end);
                }
                _ => bytes[at] = self.rng.below(256) as u8,
            }
        }
        let mut buf = vec![0; self.hosts[0].limits.frame_bytes + 64];
        let mut at = 0;
        while at < bytes.len() {
            let Some(node) = &mut self.hosts[0].node else { break };
            match node.receive(now, id, &bytes[at..]) {
                Ok(r) if r.flow == Flow::Open && r.consumed > 0 => at += r.consumed,
                _ => break,
            }
        }
        for _ in 0..64 {
            let Some(node) = &mut self.hosts[0].node else { break };
            let heard = match node.poll_transmit(now, id, &mut buf) {
                Ok(Transmit::Bytes(n)) => n,
                Ok(Transmit::Read(request)) => match self.answer(0, &request, &mut buf) {
                    Transmit::Bytes(n) => n,
                    _ => continue,
                },
                _ => break,
            };
            if self.policy == Policy::Own {
                self.check_names(&buf[..heard], HOSTILE);
            }
        }
        self.close_session(0, id);
        true
    }

    /// Keeps what honest clinics say, for the attacker to use.
    pub(crate) fn overhear(&mut self, bytes: &[u8]) {
        if self.overheard.len() + bytes.len() <= ATTACK_BYTES {
            self.overheard.extend_from_slice(bytes);
        }
    }
}
