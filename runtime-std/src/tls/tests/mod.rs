//! Whole handshakes in memory: who is let in, who is not and why, and what it costs.

mod early;
mod records;
mod tickets;

use std::io::Read;
use std::path::Path;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, SanType};
use ropeway_core::id::NodeName;
use ropeway_core::policy::PeerIdentity;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::cert;
use crate::dir::DataDir;
use crate::identity::CertIdentity;
use crate::keygen::{init_hub, init_node, read_key};
use crate::sign::{SignOptions, sign};

const NOW_S: u64 = 1_800_000_000;
const YEAR_S: u64 = 365 * 24 * 3600;

struct World {
    tmp: tempfile::TempDir,
    hub_dir: DataDir,
    hub: NodeIdentity,
}

impl World {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let hub_dir = DataDir::new(tmp.path().join("hub"));
        init_hub(&hub_dir, name("hub"), Clock::Fixed(NOW_S)).unwrap();
        let hub = NodeIdentity::load(&hub_dir).unwrap();
        Self { tmp, hub_dir, hub }
    }

    fn node(&self, who: &str, role: Role) -> NodeIdentity {
        signed_node(&self.tmp.path().join(who), who, role, &self.hub_dir)
    }

    /// A clinic with a certificate that keygen and sign would never make.
    fn odd_node(&self, change: impl Fn(&mut CertificateParams)) -> NodeIdentity {
        let issuer_key = read_key(&self.hub_dir.ca_key()).unwrap();
        let issuer = Issuer::from_ca_cert_der(&self.hub.ca, &issuer_key).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&format!("rw:{}/clinic_a", self.hub.deployment()))];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = cert::new_key().unwrap();
        let cert = params.signed_by(&key, &issuer).unwrap();
        self.with_cert(cert.der().clone(), &key)
    }

    fn with_cert(&self, cert: CertificateDer<'static>, key: &rcgen::KeyPair) -> NodeIdentity {
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = provider().key_provider.load_private_key(der).unwrap();
        NodeIdentity { key: Arc::new(CertifiedKey::new(vec![cert], key)), ..self.hub.clone() }
    }
}

fn signed_node(at: &Path, who: &str, role: Role, ca: &DataDir) -> NodeIdentity {
    let dir = DataDir::new(at);
    init_node(&dir, name(who)).unwrap();
    let options = SignOptions { role, clock: Clock::Fixed(NOW_S), ..SignOptions::default() };
    sign(&dir.node_csr(), ca, &options).unwrap();
    NodeIdentity::load(&dir).unwrap()
}

fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

fn uri(s: &str) -> SanType {
    SanType::URI(s.try_into().unwrap())
}

fn at(wall_s: u64) -> TlsOptions {
    TlsOptions { clock: Clock::Fixed(wall_s), ..TlsOptions::default() }
}

fn serve(hub: &NodeIdentity, wall_s: u64) -> Server {
    let options = at(wall_s);
    Server::from_config(unchecked_server_config(hub, &options, &Inputs::default(), None).unwrap(), hub, options.clock)
}

/// How a handshake ended, and its bytes up and down.
struct Outcome {
    client: Result<PeerIdentity>,
    server: Result<PeerIdentity>,
    up: usize,
    down: usize,
    resumed: bool,
}

fn code<T: std::fmt::Debug>(r: &Result<T>) -> Code {
    r.as_ref().unwrap_err().code
}

/// Moves what one side has to say to the other; `None` when it has nothing.
fn pass(from: &mut Conn, to: &mut Conn) -> Option<(usize, Result<usize>)> {
    let mut wire = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut wire).unwrap();
    }
    let mut rest = wire.as_slice();
    let mut last = Ok(0);
    while !rest.is_empty() && last.is_ok() {
        to.read_tls(&mut rest).unwrap();
        last = to.process();
    }
    (!wire.is_empty()).then_some((wire.len(), last))
}

fn shake(client: &Client, server: &Server) -> Outcome {
    let (mut c, mut s) = (client.connect("hub:7700").unwrap(), server.accept().unwrap());
    assert_eq!(code(&c.peer()), Code::State);
    let (mut up, mut down) = (0, 0);
    let (mut client_error, mut server_error) = (None, None);
    loop {
        let (u, d) = (pass(&mut c, &mut s), pass(&mut s, &mut c));
        if u.is_none() && d.is_none() {
            break;
        }
        for (moved, bytes, error) in [(u, &mut up, &mut server_error), (d, &mut down, &mut client_error)] {
            let Some((n, result)) = moved else { continue };
            *bytes += n;
            if let Err(e) = result {
                error.get_or_insert(e);
            }
        }
    }
    let end = |e: Option<Error>, conn: &Conn| e.map_or_else(|| conn.peer(), Err);
    Outcome { client: end(client_error, &c), server: end(server_error, &s), up, down, resumed: c.is_resumed() }
}

fn meet(clinic: &NodeIdentity, hub: &NodeIdentity, hub_wall_s: u64) -> Outcome {
    shake(&Client::new(clinic, &at(0)).unwrap(), &serve(hub, hub_wall_s))
}

#[test]
fn both_sides_learn_the_others_name_and_role_for_few_bytes() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let (client, server) = (Client::new(&clinic, &at(0)).unwrap(), Server::new(&w.hub, &at(NOW_S)).unwrap());
    let full = shake(&client, &server);
    assert_eq!(full.client.unwrap(), PeerIdentity { name: name("hub"), role: Role::Hub });
    assert_eq!(full.server.unwrap(), PeerIdentity { name: name("clinic_a"), role: Role::Clinic });
    let again = shake(&client, &server);
    assert!(again.resumed && !full.resumed);
    assert_eq!(again.server.unwrap().name, name("clinic_a"));
    println!("full handshake: {} up + {} down = {} bytes", full.up, full.down, full.up + full.down);
    println!("resumed: {} up + {} down = {} bytes", again.up, again.down, again.up + again.down);
    println!("certificates: clinic {}, hub {} bytes", clinic.key.cert[0].len(), w.hub.key.cert[0].len());
    assert!(full.up + full.down < 1250 && again.up + again.down < 720);
}

#[test]
fn bytes_travel_both_ways_and_a_close_is_told_from_a_cut() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let mut c = Client::new(&clinic, &at(0)).unwrap().connect("192.168.1.10:7700").unwrap();
    let mut s = Server::new(&w.hub, &at(NOW_S)).unwrap().accept().unwrap();
    c.write_plain(b"events").unwrap();
    while c.wants_write() || s.wants_write() {
        pass(&mut c, &mut s);
        pass(&mut s, &mut c);
    }
    let mut out = [0; 16];
    assert_eq!(s.read_plain(&mut out).unwrap(), 6);
    s.write_plain(b"ack").unwrap();
    s.close();
    pass(&mut s, &mut c);
    assert_eq!((c.read_plain(&mut out).unwrap(), &out[..3]), (3, &b"ack"[..]));
    assert_eq!(c.read_plain(&mut out).unwrap(), 0);
    s.read_tls(&mut std::io::empty()).unwrap();
    assert_eq!(s.read_plain(&mut out).unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

#[test]
fn a_hub_may_dial_a_hub() {
    let w = World::new();
    let second = w.node("hub_b", Role::Hub);
    let o = meet(&second, &w.hub, NOW_S);
    assert_eq!(o.server.unwrap().role, Role::Hub);
    let o = meet(&w.hub, &second, NOW_S);
    assert_eq!(o.client.unwrap(), PeerIdentity { name: name("hub_b"), role: Role::Hub });
}

#[test]
fn a_clinic_cannot_pose_as_the_hub() {
    let w = World::new();
    let (a, b) = (w.node("clinic_a", Role::Clinic), w.node("clinic_b", Role::Clinic));
    assert_eq!(code(&Server::new(&b, &at(NOW_S))), Code::NotAHub);
    let o = meet(&a, &b, NOW_S);
    assert_eq!(code(&o.client), Code::NotAHub);
    assert!(o.server.is_err());
}

#[test]
fn without_a_certificate_nobody_enters() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let mut config = (*client_config(&clinic, &at(0)).unwrap()).clone();
    #[derive(Debug)]
    struct Nothing;
    impl rustls::client::ResolvesClientCert for Nothing {
        fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
            None
        }
        fn has_certs(&self) -> bool {
            false
        }
    }
    config.client_auth_cert_resolver = Arc::new(Nothing);
    let o = shake(&Client::from_config(config, &clinic), &serve(&w.hub, NOW_S));
    assert_eq!((code(&o.server), code(&o.client)), (Code::NoCertificate, Code::NoCertificate));
}

#[test]
fn strangers_are_refused_on_either_side() {
    let (ours, theirs) = (World::new(), World::new());
    let (a, b) = (ours.node("clinic_a", Role::Clinic), theirs.node("clinic_a", Role::Clinic));
    // Their hub: we do not trust it.
    assert_eq!(code(&meet(&a, &theirs.hub, NOW_S).client), Code::UntrustedCertificate);
    // Their clinic with our CA's certificate: it trusts our hub, our hub does not trust it.
    let crossed = NodeIdentity { key: b.key.clone(), ..a.clone() };
    let o = meet(&crossed, &ours.hub, NOW_S);
    assert_eq!((code(&o.server), code(&o.client)), (Code::UntrustedCertificate, Code::UntrustedCertificate));
    // Signed by itself.
    let key = cert::new_key().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(&format!("rw:{}/clinic_a", ours.hub.deployment()))];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let selfmade = ours.with_cert(params.self_signed(&key).unwrap().der().clone(), &key);
    assert_eq!(code(&meet(&selfmade, &ours.hub, NOW_S).server), Code::UntrustedCertificate);
}

#[test]
fn the_hub_alone_judges_a_clinics_dates() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    assert!(meet(&clinic, &w.hub, NOW_S + 2 * YEAR_S).server.is_ok());
    let o = meet(&clinic, &w.hub, NOW_S + 2 * YEAR_S + 1);
    assert_eq!((code(&o.server), code(&o.client)), (Code::CertificateExpired, Code::CertificateExpired));
    // A hub that woke in 1970 takes the time from its own certificate.
    assert!(meet(&clinic, &w.hub, 0).server.is_ok());
}

#[test]
fn a_resumed_session_does_not_outlive_its_certificate() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let client = Client::new(&clinic, &at(0)).unwrap();
    let config = unchecked_server_config(&w.hub, &at(NOW_S), &Inputs::default(), None).unwrap();
    let server = |wall_s| Server::from_config(Arc::clone(&config), &w.hub, Clock::Fixed(wall_s));
    assert!(shake(&client, &server(NOW_S)).server.is_ok());
    let o = shake(&client, &server(NOW_S + 3 * YEAR_S));
    assert!(o.resumed);
    assert_eq!(code(&o.server), Code::CertificateExpired);
}

#[test]
fn a_clinics_clock_does_not_matter() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let server = serve(&w.hub, NOW_S);
    // 1970, and 2090, when the hub's certificate has long run out.
    for wall_s in [0, 3_786_912_000] {
        let o = shake(&Client::new(&clinic, &at(wall_s)).unwrap(), &server);
        assert!(o.client.is_ok() && o.server.is_ok());
    }
    // Nor does what rustls takes for the time, asked directly.
    let judge = |now_s| {
        use rustls::client::danger::ServerCertVerifier;
        let algorithms = provider().signature_verification_algorithms;
        let (roots, deployment) = (verify::roots(&clinic).unwrap(), clinic.deployment());
        let judge = verify::HubVerifier { roots, algorithms, deployment, floor_s: floor_s(&clinic) };
        let any = rustls_pki_types::ServerName::try_from("any").unwrap();
        judge.verify_server_cert(&w.hub.key.cert[0], &[], &any, &[], clock::unix(now_s)).is_ok()
    };
    assert!(judge(0) && judge(3_786_912_000));
    // What the clinic can prove is another matter: it was signed after the hub's end.
    let mut later = clinic.clone();
    later.cert.not_before_s = w.hub.cert.not_after_s + 1;
    assert_eq!(code(&meet(&later, &w.hub, NOW_S).client), Code::CertificateExpired);
}

#[test]
fn only_exactly_one_uri_of_our_form_names_a_node() {
    let w = World::new();
    let good = format!("rw:{}/clinic_a", w.hub.deployment());
    assert!(meet(&w.odd_node(|_| ()), &w.hub, NOW_S).server.is_ok());
    let names: [Vec<SanType>; 6] = [
        vec![],
        vec![uri(&good), uri(&good)],
        vec![uri(&good), SanType::DnsName("clinic-a".try_into().unwrap())],
        vec![SanType::DnsName("clinic-a".try_into().unwrap())],
        vec![uri("https://example.org/clinic_a")],
        vec![uri(&format!("rw:{}/../hub", w.hub.deployment()))],
    ];
    for (i, names) in names.iter().enumerate() {
        let node = w.odd_node(|p| p.subject_alt_names.clone_from(names));
        // Within the handshake: the client is told.
        let o = meet(&node, &w.hub, NOW_S);
        assert_eq!((code(&o.server), code(&o.client)), (Code::BadCertificate, Code::BadCertificate), "case {i}");
    }
    let elsewhere = w.odd_node(|p| p.subject_alt_names = vec![uri("rw:0123456789abcdef/clinic_a")]);
    let o = meet(&elsewhere, &w.hub, NOW_S);
    assert_eq!((code(&o.server), code(&o.client)), (Code::Deployment, Code::BadCertificate));
}

#[test]
fn a_certificate_for_other_purposes_is_refused() {
    use ExtendedKeyUsagePurpose as P;
    let w = World::new();
    let purposes = [vec![], vec![P::Any], vec![P::ServerAuth], vec![P::ClientAuth, P::CodeSigning]];
    for (i, purposes) in purposes.iter().enumerate() {
        let node = w.odd_node(|p| p.extended_key_usages.clone_from(purposes));
        assert_eq!(code(&meet(&node, &w.hub, NOW_S).server), Code::BadCertificate, "case {i}");
    }
    let ca = w.odd_node(|p| p.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
    assert_eq!(code(&meet(&ca, &w.hub, NOW_S).server), Code::BadCertificate);
    let long = w.odd_node(|p| p.subject_alt_names = vec![uri(&format!("rw:{}", "x".repeat(5000)))]);
    assert_eq!(code(&meet(&long, &w.hub, NOW_S).server), Code::BadCertificate);
    let mut chain = (*w.odd_node(|_| ()).key).clone();
    chain.cert.push(w.hub.ca.clone());
    let node = NodeIdentity { key: Arc::new(chain), ..w.hub.clone() };
    assert_eq!(code(&meet(&node, &w.hub, NOW_S).server), Code::BadCertificate);
}

#[test]
fn garbage_and_other_protocols_are_a_tls_error() {
    let w = World::new();
    for bytes in [&b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"[..], &[0; 64], &[0x16, 3, 1, 0, 4, 1, 0, 0, 0]] {
        let mut s = serve(&w.hub, NOW_S).accept().unwrap();
        s.read_tls(&mut &bytes[..]).unwrap();
        assert_eq!(code(&s.process()), Code::Tls);
    }
}

#[test]
fn the_number_of_remembered_sessions_is_bounded_and_may_be_zero() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let client = Client::new(&clinic, &at(0)).unwrap();
    let server = Server::new(&w.hub, &TlsOptions { sessions: 0, ..at(NOW_S) }).unwrap();
    assert!(!shake(&client, &server).resumed);
    assert!(!shake(&client, &server).resumed);
}

#[test]
fn an_issued_certificate_says_what_was_asked() {
    let w = World::new();
    let clinic = w.node("clinic_a", Role::Clinic);
    let read = CertIdentity::parse(&clinic.key.cert[0]).unwrap();
    assert_eq!(read, clinic.cert);
    assert_eq!((read.peer.role, read.deployment), (Role::Clinic, w.hub.deployment()));
    assert_eq!(peer_identity(&clinic.key.cert, w.hub.deployment()).unwrap(), read.peer);
    assert_eq!(code(&peer_identity(&[], w.hub.deployment())), Code::NoCertificate);
    let mut text = String::new();
    std::fs::File::open(w.hub_dir.node_key()).unwrap().read_to_string(&mut text).unwrap();
    assert!(!format!("{clinic:?}").contains("PRIVATE") && text.contains("PRIVATE"));
}
