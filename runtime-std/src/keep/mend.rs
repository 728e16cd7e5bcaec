//! What can be hoped for after a failed session.

use ropeway_core::code::Code;
use ropeway_core::node::EndedBy;

/// What a new try may bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mend {
    /// It is the link, or a hub that is busy or restarted: try again after the next pause.
    Soon,
    /// Somebody has to do something at the hub: try again, but rarely.
    Late,
    /// Somebody has to do something here: trying again only costs bytes.
    Never,
}

/// Judges a session's end with this code; `by` if the session had begun.
pub(crate) fn mend(code: Code, by: Option<EndedBy>) -> Mend {
    let of_the_hub = by == Some(EndedBy::Peer);
    match code {
        Code::Fork | Code::Deployment | Code::Origin | Code::Address => Mend::Never,
        // What is wrong with the hub's disk is not wrong with ours. A full one still reads.
        Code::DiskFull | Code::Busy => Mend::Soon,
        Code::Storage | Code::ReadOnly if of_the_hub => Mend::Soon,
        Code::Corrupt => Mend::Late,
        _ => match code.as_u16() / 100 {
            3 if of_the_hub => Mend::Late,
            1..=3 => Mend::Never,
            4 | 6 => Mend::Late,
            _ => Mend::Soon,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_heals_soon_a_hub_late_and_what_is_wrong_here_never() {
        let rows = [
            (Code::Cut, None, Mend::Soon),
            (Code::Timeout, Some(EndedBy::Us), Mend::Soon),
            (Code::Overloaded, Some(EndedBy::Peer), Mend::Soon),
            (Code::Stopping, Some(EndedBy::Peer), Mend::Soon),
            (Code::Tls, None, Mend::Soon),
            (Code::Storage, Some(EndedBy::Peer), Mend::Soon),
            (Code::Storage, Some(EndedBy::Us), Mend::Never),
            (Code::Storage, None, Mend::Never),
            (Code::SegmentHeader, Some(EndedBy::Peer), Mend::Late),
            (Code::Superseded, Some(EndedBy::Peer), Mend::Late),
            (Code::Version, None, Mend::Late),
            (Code::Quota, Some(EndedBy::Peer), Mend::Late),
            (Code::Fork, Some(EndedBy::Us), Mend::Never),
            (Code::CertificateExpired, None, Mend::Never),
            (Code::UntrustedCertificate, None, Mend::Never),
            (Code::Config, None, Mend::Never),
        ];
        for (code, by, expected) in rows {
            assert_eq!(mend(code, by), expected, "{code} {by:?}");
        }
    }
}
