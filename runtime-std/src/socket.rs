//! What a TCP connection over a thin link is told.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// Room for what waits in the kernel, in bytes; Linux takes twice that and counts its own overhead.
/// What waits there cannot be overtaken by what is urgent, nor taken back after a cut. On a thin link
/// the core's window is smaller and decides; this is for the moments in which the window is too large
/// for a link that has become thin. (`TCP_NOTSENT_LOWAT` would not help: a first congestion window of
/// ten packets takes more than the core's, so nothing is ever counted as unsent.)
const SEND_BUFFER_BYTES: usize = 16 << 10;
/// What was sent and is not acknowledged by the other machine after this time, in milliseconds, was
/// sent in vain. Longer than the silence after which a session is given up: it is for the case that
/// the session has given a large batch more time.
const UNACKNOWLEDGED_MAX_MS: u32 = 90_000;

/// Short queues, no waiting for company, and no trust in a peer that is not there.
///
/// # Errors
/// If small packets cannot be sent at once. The rest is a wish: some systems do not know it.
pub fn tune(socket: impl AsFd) -> io::Result<()> {
    let fd = socket.as_fd();
    sockopt::set_tcp_nodelay(fd, true)?;
    let _ = sockopt::set_socket_send_buffer_size(fd, SEND_BUFFER_BYTES);
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(fd, UNACKNOWLEDGED_MAX_MS);
    Ok(())
}

/// For somebody who will call again at once: what is not acknowledged by the other machine after this time
/// was sent in vain, if that is sooner than [`tune`] has said. A wish, too.
pub(crate) fn give_up_after(socket: impl AsFd, time: Duration) {
    let ms = u32::try_from(time.as_millis()).unwrap_or(u32::MAX).clamp(1, UNACKNOWLEDGED_MAX_MS);
    #[cfg(target_os = "linux")]
    let _ = sockopt::set_tcp_user_timeout(socket, ms);
    #[cfg(not(target_os = "linux"))]
    let _ = (socket, ms);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_tuned_socket_has_short_queues_and_sends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(&socket).unwrap();
        assert!(socket.nodelay().unwrap());
        assert!(sockopt::socket_send_buffer_size(&socket).unwrap() <= 2 * SEND_BUFFER_BYTES);
        #[cfg(target_os = "linux")]
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), UNACKNOWLEDGED_MAX_MS);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_calls_again_at_once_waits_for_less_and_never_for_more() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(&socket).unwrap();
        for (time, ms) in [(Duration::from_secs(20), 20_000), (Duration::from_secs(600), UNACKNOWLEDGED_MAX_MS)] {
            give_up_after(&socket, time);
            assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), ms);
        }
    }
}
