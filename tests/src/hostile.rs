//! A peer with a good certificate and bad manners: it sends any bytes and keeps all that it is told.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use ropeway_std::NodeIdentity;
use ropeway_std::tls::{Client, Conn, TlsOptions};

use crate::Deployment;
use crate::spec::{Hello, frame, kind, number, take_varint};

/// How long the hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A frame that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Type and flags.
    pub first: u8,
    /// What it says.
    pub body: Vec<u8>,
}

impl Frame {
    /// The type without flags.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.first & 0x1f
    }

    /// Its numbers, if it is made of varints.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        let (mut rest, mut all) = (self.body.as_slice(), Vec::new());
        while let Some((v, r)) = take_varint(rest) {
            all.push(v);
            rest = r;
        }
        all
    }
}

/// A connection that has finished its TLS handshake.
#[derive(Debug)]
pub struct Hostile {
    conn: Conn,
    socket: TcpStream,
    /// Number of the deployment.
    pub deployment: u64,
    /// All plain bytes that the hub has ever sent.
    pub heard: Vec<u8>,
    /// Frames that a wait has used.
    used: usize,
    closed: bool,
}

impl Hostile {
    /// Connects with the certificate of `node`. Says nothing yet.
    ///
    /// # Panics
    /// If the hub does not let it in.
    #[must_use]
    pub fn connect(d: &Deployment, node: &str, hub: SocketAddr) -> Self {
        let id = NodeIdentity::load(&d.dir(node)).unwrap();
        let client = Client::new(&id, &TlsOptions::default()).unwrap();
        let mut conn = client.connect(&hub.to_string()).unwrap();
        conn.set_buffer_limit(None);
        let socket = TcpStream::connect(hub).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_nodelay(true).unwrap();
        let deployment = u64::from_be_bytes(id.deployment().0);
        let mut peer = Self { conn, socket, deployment, heard: Vec::new(), used: 0, closed: false };
        while peer.conn.is_handshaking() {
            peer.flush();
            peer.hear();
            assert!(!peer.closed, "closed in the handshake");
        }
        peer.flush();
        peer
    }

    /// Connects and says HELLO.
    #[must_use]
    pub fn greeted(d: &Deployment, node: &str, hub: SocketAddr) -> Self {
        let mut peer = Self::connect(d, node, hub);
        let hello = Hello::new(peer.deployment).frame();
        peer.say(&hello);
        peer
    }

    /// Sends these bytes. A connection that the hub has closed already is no error.
    pub fn say(&mut self, bytes: &[u8]) {
        self.conn.write_plain(bytes).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        while self.conn.wants_write() {
            if self.conn.write_tls(&mut self.socket).is_err() {
                self.closed = true;
                return;
            }
        }
    }

    /// Takes in what comes next.
    ///
    /// # Panics
    /// If nothing comes.
    fn hear(&mut self) {
        match self.conn.read_tls(&mut self.socket) {
            Ok(0) => self.closed = true,
            Ok(_) => {
                self.conn.process().unwrap();
                let mut buf = [0; 16 << 10];
                while let Ok(n) = self.conn.read_plain(&mut buf) {
                    if n == 0 {
                        break;
                    }
                    self.heard.extend(&buf[..n]);
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the hub is silent; it said {:?}", self.frames())
            }
            Err(_) => self.closed = true,
        }
    }

    /// All whole frames so far.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        let (mut rest, mut all) = (self.heard.as_slice(), Vec::new());
        while let Some((first, r)) = rest.split_first() {
            let Some((len, r)) = take_varint(r) else { break };
            if r.len() < len as usize {
                break;
            }
            let (body, after) = r.split_at(len as usize);
            all.push(Frame { first: *first, body: body.to_vec() });
            rest = after;
        }
        all
    }

    /// The next frame of this type that no wait has used.
    ///
    /// # Panics
    /// If the hub closes or stays silent instead.
    pub fn wait(&mut self, kind: u8) -> Frame {
        loop {
            let frames = self.frames();
            if let Some(n) = frames[self.used..].iter().position(|f| f.kind() == kind) {
                self.used += n + 1;
                return frames[self.used - 1].clone();
            }
            assert!(!self.closed, "closed; it said {frames:?}");
            self.hear();
        }
    }

    /// Waits until the hub has handled all that was said, and lives.
    pub fn settle(&mut self) {
        self.say(&number(kind::PING, 77));
        while self.wait(kind::PONG).numbers() != [77] {}
    }

    /// Waits for an acknowledgement of this handle up to `seq`.
    pub fn acknowledged(&mut self, handle: u64, seq: u64) {
        while !self.wait(kind::ACK).numbers().chunks(2).any(|p| p == [handle, seq]) {}
    }

    /// The code of the hub's ERROR, after which it must close.
    pub fn refusal(&mut self) -> u64 {
        let error = self.wait(kind::ERROR);
        self.end();
        error.numbers()[0]
    }

    /// Hears everything up to the hub's closing.
    pub fn end(&mut self) {
        while !self.closed {
            self.hear();
        }
    }

    /// Ends well.
    pub fn goodbye(mut self) {
        self.say(&frame(kind::GOODBYE, &[]));
        self.wait(kind::GOODBYE);
        self.end();
    }
}
