//! Every refusal and fault has a code: one table, shared by the wire, the command line and docs.
//!
//! A code's number never changes its meaning and is never used again. `docs/ERRORS.md` lists the
//! same table; a test keeps both equal.

use core::fmt;

macro_rules! codes {
    ($($number:literal $variant:ident $name:literal $says:literal $hint:literal;)*) => {
        /// A stable error code. The number is what travels on the wire and in `--json`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(u16)]
        pub enum Code {
            $(#[doc = concat!("`R", stringify!($number), " ", $name, "`: ", $says)] $variant = $number,)*
        }

        impl Code {
            /// All codes in the order of their numbers.
            pub const ALL: &'static [Code] = &[$(Code::$variant),*];

            /// The code with this number, `None` if this version does not know it.
            #[must_use]
            pub fn from_u16(number: u16) -> Option<Code> {
                match number { $($number => Some(Code::$variant),)* _ => None }
            }

            /// A short name in the words of a message: `wrong key`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Code::$variant => $name,)* }
            }

            /// What happened, as one sentence.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Code::$variant => $says,)* }
            }

            /// What to do about it, as one sentence.
            #[must_use]
            pub fn hint(self) -> &'static str {
                match self { $(Code::$variant => $hint,)* }
            }
        }
    };
}

codes! {
    101 BadName "bad name" "A node name uses characters that are not allowed, or is empty or too long."
        "Use 1 to 48 of a-z A-Z 0-9 . _ - and do not start with a dot or a dash.";
    102 BadArgument "bad argument" "An argument has a value that makes no sense here."
        "Run the command with --help; it lists what each option takes.";
    103 NotInitialised "not initialised" "The directory holds no Ropeway node."
        "Check the path, or make a node there with `ropeway keygen DIR --node NAME` (or --hub).";
    104 AlreadyInitialised "already initialised" "The directory holds a Ropeway node already; nothing was changed."
        "Choose another directory; a node's keys are never overwritten.";
    105 Config "bad configuration" "A file of the data directory cannot be understood."
        "The message names the file and what is wrong in it; restore it from a backup or correct it.";
    106 BadSnapshot "bad snapshot" "The directory is no complete snapshot, or a file of it has changed since; nothing was restored."
        "Take the snapshot again, or restore an older one; the message names what is wrong.";
    201 KeyMissing "key missing" "A key of the log is not there, or nobody gave the passphrase."
        "Put keys/log.key and keys/keyring back from your backup, or give the passphrase; without them the log cannot be read by anyone.";
    202 KeyBad "key unreadable" "A key file does not hold what it should."
        "Put it back from your backup: keys/log.key is a line that begins with 64 hexadecimal digits, keys/keyring belongs to it.";
    203 KeyExposed "key exposed" "The key file can be read by other users of this machine."
        "Run `chmod 600` on it, and think about who may have read it.";
    204 WrongKey "wrong key" "The log or its keyring needs another key or passphrase; nothing was changed."
        "Put the right keys/log.key back: the one that keygen or the last rekey made for this directory; or give the right passphrase.";
    205 NotSigned "not signed" "This node has no certificate yet."
        "Take tls/node.csr to the hub, run `ropeway sign node.csr --ca HUBDIR`, bring node.crt and ca.crt back beside it.";
    206 BadCertificate "bad certificate" "A certificate does not name a node of this deployment, or does not fit its key."
        "Sign the node's CSR again with the right CA: `ropeway sign DIR/tls/node.csr --ca HUBDIR`.";
    207 NotACa "not a CA" "The directory holds no certificate authority."
        "Name the hub's directory, the one made by `ropeway keygen DIR --hub`.";
    208 BadCsr "bad request" "The file is not a certificate request of a Ropeway node."
        "Make one with `ropeway keygen DIR --node NAME`; it is DIR/tls/node.csr.";
    209 CertificateExpired "certificate expired" "A certificate's time has passed or has not begun."
        "Check the hub's clock, then sign the node's CSR again.";
    210 UntrustedCertificate "untrusted certificate" "The peer's certificate was not signed by this deployment's CA."
        "Check that both nodes have the same ca.crt and that the address is the right hub's.";
    211 NoCertificate "no certificate" "The peer connected without a certificate."
        "Only Ropeway nodes with a signed certificate may connect; enrol the device first.";
    212 NotAHub "not a hub" "The node at this address has no hub certificate, so it may not act as one."
        "Check the address; somebody may be posing as your hub.";
    213 NameTaken "name taken" "The CA has signed another key for this name already; nothing was signed."
        "Choose another name for the new device; if it replaces the old one, sign again with --replace.";
    301 Locked "locked" "Another process works on this data directory."
        "Wait for it to end or stop it; `ropeway status` shows its process id.";
    302 Corrupt "corrupt" "A part of the log is damaged; the rest is served, nothing was cut off."
        "Run `ropeway verify` to see what is missing, then sync: the peer sends it again.";
    303 SegmentHeader "segment header damaged" "A segment's header cannot be read, so its frames cannot either."
        "Keep the file, restore it from a backup if there is one, or sync to fetch the events again.";
    304 SegmentMissing "segment missing" "A segment file of the log is not there."
        "Put the file back if you moved it; never delete single segment files.";
    305 Tampered "tampered" "A frame's checksum is right but its authentication tag is not: it was altered, not damaged."
        "Find out who could write to this disk; the frame is not used.";
    306 FormatNewer "format too new" "The log or its keyring was written by a newer version; nothing was read or changed."
        "Install that version or a newer one.";
    307 DiskFull "disk full" "There is no room for more events; the event was not taken."
        "Free some space. Sync still works, and events already taken are safe.";
    308 Storage "storage failed" "The disk reported an error; the node stopped acknowledging until it is opened again."
        "Check the card and its cable (dmesg), then start again; what was acknowledged is on disk.";
    309 ReadOnly "read only" "The log is open for reading only."
        "The file system may be mounted read-only, which SD cards do at the end of their life.";
    310 Busy "busy" "The disk is slower than the events come; the event was not taken."
        "Try again in a moment.";
    311 TooLarge "too large" "An event is larger than the limit."
        "Split it; the limit is in the message.";
    312 TornTail "torn tail" "The last write before a power cut was incomplete; it had not been acknowledged and was set aside."
        "Nothing to do: the bytes are kept in quarantine/.";
    313 TailSuspect "suspect tail" "More of the log's end is unreadable than one interrupted write can explain."
        "Keep the card, run `ropeway verify`, sync to fetch the events again.";
    314 TailLost "tail lost" "The peer has events of this node that this node's own log has lost."
        "They were fetched from the peer; the card may lie about its writes: replace it.";
    315 Rotten "rotten" "A checksum or a bit of a header is rotten; the content is whole."
        "Nothing was lost. If it happens more often, the card is wearing out: replace it.";
    317 Expired "expired" "The events were removed from this log by its retention rule; nothing is damaged."
        "A hub, or a snapshot that was taken before, has them; `ropeway status` shows from which event on this log holds them.";
    318 Withheld "withheld" "An event is not here: its node could not send it, or this node does not take it. What follows it is here."
        "`ropeway verify` names it and says why. It is kept where it was written; see docs/OPERATIONS.md, Withheld events.";
    401 Malformed "malformed" "The peer sent bytes that are not a message."
        "If it happens again between two Ropeway nodes, report it: the connection is closed, nothing was stored.";
    402 FrameTooLarge "frame too large" "The peer announced a frame over the limit."
        "If it happens again between two Ropeway nodes, report it.";
    403 Version "version" "The peer speaks no protocol version that this node speaks."
        "Upgrade the older of the two.";
    404 State "out of order" "The peer sent a message that does not fit the session's state."
        "If it happens again between two Ropeway nodes, report it.";
    405 Gap "gap" "The peer sent an event without the one before it; it was not stored."
        "It is asked for again at the next connection.";
    406 Fork "fork" "Two different histories exist for one stream: a card was copied or restored and both wrote."
        "Nothing was lost: each side keeps its own. Do not delete either log; see docs/OPERATIONS.md, Forks.";
    407 Credit "credit exceeded" "The peer sent more than it was allowed to."
        "If it happens again between two Ropeway nodes, report it.";
    408 Limit "limit" "The peer needs more sessions, streams or memory than this node is configured for."
        "On a hub, serve with a larger --max-sessions, or find out why the peer has so many.";
    409 HlcRange "time stamp out of range" "An event carries a time stamp that no clock can show."
        "The event was not stored; look at the peer that wrote it.";
    410 BadBatch "bad batch" "A batch of events does not decode to what it says."
        "Nothing of it was stored; it is asked for again at the next connection.";
    411 Deployment "other deployment" "The peer belongs to another deployment."
        "Check the address and the certificates.";
    412 Superseded "superseded" "The same node connected again; the older session was closed."
        "Nothing to do. If it happens all the time, two devices use one certificate: a cloned card.";
    413 SampleDiffers "other sample" "The hub has another base sample than this node; neither was used, so batches were larger."
        "Copy tls/sample.ndjson of the hub's directory to this node's, or set the same file with `ropeway sample`.";
    501 Unreachable "unreachable" "The hub could not be reached."
        "Check the address and the link; nothing is lost, sync again later.";
    502 Cut "link cut" "The connection ended before the work was done."
        "Sync again: it goes on where it was acknowledged.";
    503 Timeout "timeout" "The peer was silent for too long."
        "Sync again: it goes on where it was acknowledged.";
    504 Tls "TLS failed" "The encrypted connection could not be set up."
        "The port may belong to another program, or the peer speaks no TLS 1.3.";
    505 Overloaded "overloaded" "The hub has no place for another session now."
        "Try again later.";
    506 Stopping "stopping" "The peer is shutting down."
        "Try again later.";
    507 Address "bad address" "The address cannot be used."
        "Write HOST:PORT, for example 192.168.1.10:7700; for serve, a free port on this machine.";
    508 Budget "budget used" "The sync may use no more bytes now; what was acknowledged stays so."
        "Nothing is lost: sync again when the message says; it goes on where it was. Or allow more bytes.";
    509 Window "outside of the window" "Syncs may not run at this hour."
        "Nothing is lost: sync again when the message says; it goes on where it was.";
    601 Policy "not allowed" "The policy does not let the peer do this."
        "See `serve --policy`, and which kind of certificate the peer has.";
    602 Origin "foreign origin" "The peer sent events in the name of another node."
        "Nothing was stored; find out who holds that certificate.";
    603 Quota "quota" "The node has used up what it is allowed."
        "The limit is fixed; find out why the node has so many incarnations: perhaps its card is restored again and again.";
    604 Refused "refused by a rule" "A rule of its receiver does not take the event, for its kind or what it holds; what follows it goes on."
        "It is kept where it was written. If the receiver is to take such events, change `serve --refuse-kind`, or the check of the application, there.";
    901 Io "input or output" "Reading or writing a file or a socket failed."
        "The message names it and says what the system reported.";
}

impl Code {
    /// The number on the wire.
    #[must_use]
    pub fn as_u16(self) -> u16 {
        self as u16
    }
}

impl fmt::Display for Code {
    /// `R204 wrong key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "R{} {}", self.as_u16(), self.name())
    }
}

impl core::error::Error for Code {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascending_and_lead_back_to_their_code() {
        for pair in Code::ALL.windows(2) {
            assert!(pair[0].as_u16() < pair[1].as_u16(), "{} {}", pair[0], pair[1]);
        }
        for &c in Code::ALL {
            assert_eq!(Code::from_u16(c.as_u16()), Some(c));
            assert!(c.says().ends_with('.') && c.hint().ends_with('.'), "{c}");
        }
        assert_eq!(Code::from_u16(0), None);
    }
}
