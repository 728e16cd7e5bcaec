//! Somebody on the way between a clinic and its hub who keeps what passes, and can hold it up.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// What is done with a connection that is made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is let through.
    Forward,
    /// What the clinic says waits until there is another mode.
    Hold,
    /// What the clinic says first is kept, and the connection closed: the hub hears nothing.
    Swallow,
}

/// A running recorder. Its threads end with the process.
#[derive(Debug)]
pub struct Recorder {
    /// Where to connect instead of the hub.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    hub: SocketAddr,
    mode: Mode,
    /// What the clinic has said first, by connection.
    said: Vec<Vec<u8>>,
    /// Of the clinic, and towards the hub.
    sockets: [Vec<TcpStream>; 2],
    /// The hub is not told of an end.
    forgetful: bool,
}

impl Recorder {
    /// Stands before `hub`.
    #[must_use]
    pub fn start(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = State { hub, mode: Mode::Forward, said: Vec::new(), sockets: [vec![], vec![]], forgetful: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let of_thread = Arc::clone(&shared);
        std::thread::spawn(move || {
            for clinic in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&of_thread);
                std::thread::spawn(move || shared.attend(clinic));
            }
        });
        Self { address, shared }
    }

    /// What is done from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.state.lock().unwrap().mode = mode;
        self.shared.changed.notify_all();
    }

    /// The hub is there now.
    pub fn lead_to(&self, hub: SocketAddr) {
        self.shared.state.lock().unwrap().hub = hub;
    }

    /// Breaks all connections; the hub learns of it first.
    pub fn cut(&self) {
        let mut state = self.shared.state.lock().unwrap();
        for socket in state.sockets.iter_mut().rev().flat_map(std::mem::take) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Breaks all connections, as a link does that comes back with another address: the hub does not learn of it.
    pub fn forget(&self) {
        let mut state = self.shared.state.lock().unwrap();
        state.forgetful = true;
        for socket in std::mem::take(&mut state.sockets[0]) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Waits until the clinic has said something on so many connections; what it was on the last of them.
    #[must_use]
    pub fn said_on(&self, connections: usize) -> Vec<u8> {
        let state = self.shared.state.lock().unwrap();
        let too_few = |state: &mut State| state.said.len() < connections;
        let (state, late) = self.shared.changed.wait_timeout_while(state, Duration::from_secs(60), too_few).unwrap();
        assert!(!late.timed_out(), "{} connections", state.said.len());
        state.said[connections - 1].clone()
    }
}

impl Shared {
    fn remember(&self, side: usize, socket: &TcpStream) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap();
        state.sockets[side].push(socket.try_clone().unwrap());
        state
    }

    fn attend(&self, mut clinic: TcpStream) {
        let at_first = self.remember(0, &clinic).mode;
        let (mut said, mut piece) = (Vec::new(), [0; 4096]);
        // A first flight is written at once; a little patience is enough for all of it.
        clinic.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        while let Ok(n @ 1..) = clinic.read(&mut piece) {
            said.extend_from_slice(&piece[..n]);
        }
        if said.is_empty() {
            return;
        }
        let mut state = self.state.lock().unwrap();
        state.said.push(said.clone());
        self.changed.notify_all();
        if at_first == Mode::Hold {
            state = self.changed.wait_while(state, |state| state.mode == Mode::Hold).unwrap();
        }
        let (mode, hub) = (if at_first == Mode::Hold { state.mode } else { at_first }, state.hub);
        drop(state);
        if mode == Mode::Swallow {
            let _ = clinic.shutdown(Shutdown::Both);
            return;
        }
        let Ok(mut hub) = TcpStream::connect(hub) else { return };
        clinic.set_read_timeout(None).unwrap();
        drop(self.remember(1, &hub));
        let (mut from, mut to) = (hub.try_clone().unwrap(), clinic.try_clone().unwrap());
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = hub.write_all(&said).and_then(|()| std::io::copy(&mut clinic, &mut hub).map(|_| ()));
        if !self.state.lock().unwrap().forgetful {
            let _ = hub.shutdown(Shutdown::Write);
        }
    }
}
