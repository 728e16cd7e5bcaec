//! Whoever is not a node of the deployment is turned away with a code in the hub's log, and nobody
//! else notices.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, PKCS_ED25519, SanType};
use ropeway_core::code::Code;
use ropeway_core::limits::Timing;
use ropeway_core::policy::{Policy, Role};
use ropeway_std::keygen;
use ropeway_std::tls::Clock;
use ropeway_tests::{Deployment, logged, name};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme};

use crate::scene::{Scene, scene, scene_with};

/// Believes every hub: these clients are the ones to be refused.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Shakes hands with any certificate or none; returns after the hub has closed.
fn dial(hub: SocketAddr, identity: Option<Identity>) -> SocketAddr {
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).unwrap(),
    };
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("hub").unwrap()).unwrap();
    let mut socket = TcpStream::connect(hub).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let me = socket.local_addr().unwrap();
    loop {
        match tls.complete_io(&mut socket) {
            Ok((0, 0)) => return me,
            Ok(_) => {}
            Err(e) => {
                assert_ne!(e.kind(), std::io::ErrorKind::WouldBlock, "the hub keeps the connection open");
                return me;
            }
        }
    }
}

/// Sends these bytes and returns when the hub has closed.
fn throw(hub: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let mut socket = TcpStream::connect(hub).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let me = socket.local_addr().unwrap();
    let _ = socket.write_all(bytes);
    let mut rest = Vec::new();
    let end = socket.read_to_end(&mut rest);
    assert!(end.map_or_else(|e| e.kind() != std::io::ErrorKind::WouldBlock, |_| true), "still open");
    me
}

fn refused(s: &Scene, who: SocketAddr, code: &str) {
    logged::expect(&who.to_string(), code);
    s.others_still_sync();
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).unwrap()
}

fn params(d: &Deployment, node: &str) -> CertificateParams {
    let deployment = d.hub().node().unwrap().deployment.unwrap();
    let mut p = CertificateParams::default();
    p.subject_alt_names = vec![SanType::URI(format!("rw:{deployment}/{node}").try_into().unwrap())];
    p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    p
}

/// A certificate from the deployment's own CA.
fn issued(d: &Deployment, p: &CertificateParams) -> Identity {
    let ca_key = KeyPair::from_pem(&std::fs::read_to_string(d.hub().ca_key()).unwrap()).unwrap();
    let ca = CertificateDer::from_pem_file(d.hub().ca_crt()).unwrap();
    let (issuer, key) = (Issuer::from_ca_cert_der(&ca, ca_key).unwrap(), key());
    let cert = p.signed_by(&key, &issuer).unwrap();
    (vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn identity_of(d: &Deployment, node: &str) -> Identity {
    let dir = d.dir(node);
    let cert = CertificateDer::from_pem_file(dir.node_crt()).unwrap();
    (vec![cert], PrivateKeyDer::from_pem_file(dir.node_key()).unwrap())
}

#[test]
fn garbage_on_the_port_is_turned_away() {
    let s = scene(Policy::Own);
    let mut x = 7_u32;
    let noise: Vec<u8> = (0..5000)
        .map(|_| {
            x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (x >> 24) as u8
        })
        .collect();
    refused(&s, throw(s.hub.address, &noise), "R504");
    refused(&s, throw(s.hub.address, b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"), "R504");
    refused(&s, throw(s.hub.address, b"SSH-2.0-OpenSSH_9.6\r\n"), "R504");
    // A record of the handshake with nothing sensible in it.
    refused(&s, throw(s.hub.address, &[&[22, 3, 1, 0, 200][..], &noise[..200]].concat()), "R504");
    // Many tiny fragments of a message that would become huge.
    let endless: Vec<u8> = (0..6000).flat_map(|i| [22, 3, 1, 0, 1, [1, 0xff, 0xff, 0xff][i.min(3)]]).collect();
    refused(&s, throw(s.hub.address, &endless), "R504");
}

#[test]
fn who_only_connects_and_goes_is_noted() {
    let s = scene(Policy::Own);
    let socket = TcpStream::connect(s.hub.address).unwrap();
    let me = socket.local_addr().unwrap();
    drop(socket);
    refused(&s, me, "R502");
}

/// The first bytes of a ClientHello of this length, then nothing.
const HALF_HELLO: [u8; 12] = [22, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3, 0x42];

#[test]
fn two_hundred_half_handshakes_do_not_hold_up_a_clinic() {
    let s = scene(Policy::Own);
    let _held: Vec<_> = (0..200)
        .map(|_| {
            let mut socket = TcpStream::connect(s.hub.address).unwrap();
            socket.write_all(&HALF_HELLO).unwrap();
            socket
        })
        .collect();
    let start = Instant::now();
    s.others_still_sync();
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_half_handshake_ends_after_its_time_however_busy_it_is() {
    let s = scene_with(Policy::Own, Timing { hello_timeout_ms: 2000, ..Timing::default() });
    let mut socket = TcpStream::connect(s.hub.address).unwrap();
    socket.write_all(&HALF_HELLO).unwrap();
    // A slow one, which sends a byte now and then.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) && socket.write_all(&[0]).is_ok() {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!((2..15).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    let me = socket.local_addr().unwrap();
    refused(&s, me, "R503");
}

#[test]
fn tls_1_2_is_turned_away() {
    let s = scene(Policy::Own);
    // ClientHello of TLS 1.2: no supported_versions. One suite, X25519, Ed25519.
    let extensions = [
        &[0, 10, 0, 4, 0, 2, 0, 29][..],
        &[0, 13, 0, 4, 0, 2, 8, 7],
        &[0, 11, 0, 2, 1, 0],
        &[0, 23, 0, 0],
        &[0xff, 1, 0, 1, 0],
    ]
    .concat();
    let body =
        [&[3, 3][..], &[7; 32], &[0, 0, 2, 0xcc, 0xa9, 1, 0], &[0, extensions.len() as u8], &extensions].concat();
    let hello = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    let record = [&[22, 3, 1, 0, hello.len() as u8][..], &hello].concat();
    // It is sound: rustls reads it as a ClientHello.
    let mut acceptor = rustls::server::Acceptor::default();
    acceptor.read_tls(&mut record.as_slice()).unwrap();
    assert!(acceptor.accept().is_ok_and(|a| a.is_some()));
    refused(&s, throw(s.hub.address, &record), "R504");
}

#[test]
fn a_client_without_a_certificate_is_turned_away() {
    let s = scene(Policy::Own);
    refused(&s, dial(s.hub.address, None), "R211");
}

#[test]
fn certificates_that_the_ca_did_not_sign_are_turned_away() {
    let s = scene(Policy::Own);
    let key = key();
    let cert = params(&s.d, "clinic_a").self_signed(&key).unwrap();
    let own = (vec![cert.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    refused(&s, dial(s.hub.address, Some(own)), "R210");
    // A whole other deployment, with the same names.
    let other = Deployment::new(&["clinic_a"]);
    refused(&s, dial(s.hub.address, Some(identity_of(&other, "clinic_a"))), "R210");
    // The right certificate with another key.
    let (chain, _) = identity_of(&s.d, "clinic_a");
    let (_, wrong) = identity_of(&s.d, "clinic_b");
    let config = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    // rustls does not even take it: nothing to send.
    assert!(config.with_client_auth_cert(chain, wrong).is_err());
}

#[test]
fn certificates_out_of_their_time_or_form_are_turned_away() {
    let s = scene(Policy::Own);
    let mut p = params(&s.d, "clinic_a");
    (p.not_before, p.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2022, 1, 1));
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R209");
    (p.not_before, p.not_after) = (rcgen::date_time_ymd(2090, 1, 1), rcgen::date_time_ymd(2092, 1, 1));
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R209");
    let mut p = params(&s.d, "clinic_a");
    p.subject_alt_names.push(SanType::URI("rw:0011223344556677/clinic_b".try_into().unwrap()));
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R206");
    let mut p = params(&s.d, "clinic_a");
    p.subject_alt_names = vec![SanType::URI("rw:0011223344556677/clinic_a".try_into().unwrap())];
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R411");
    let p = params(&s.d, "../etc");
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R206");
    let mut p = params(&s.d, "clinic_a");
    p.extended_key_usages.clear();
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R206");
    // The hub's own name, in a clinic's certificate.
    let p = params(&s.d, "hub");
    refused(&s, dial(s.hub.address, Some(issued(&s.d, &p))), "R206");
}

/// Serves one connection with this identity after another, in a thread, asking for nothing.
fn pose(identity: Identity) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(identity.0, identity.1)
        .unwrap();
    let config = Arc::new(config);
    std::thread::spawn(move || {
        let Ok((mut socket, _)) = listener.accept() else { return };
        let mut tls = ServerConnection::new(config).unwrap();
        while tls.complete_io(&mut socket).is_ok_and(|n| n != (0, 0)) {}
    });
    address
}

#[test]
fn a_clinic_does_not_sync_with_whoever_poses_as_the_hub() {
    let s = scene(Policy::Own);
    s.d.push("clinic_b", ["secret"]);
    let sync = |at: SocketAddr| {
        let e = s.d.open("clinic_b").sync(&at.to_string(), &Default::default(), |_| ()).unwrap_err();
        assert_eq!((e.report.sent, e.report.acknowledged), (0, 0));
        e.error.code
    };
    // A clinic with a good certificate.
    assert_eq!(sync(pose(identity_of(&s.d, "clinic_a"))), Code::NotAHub);
    // A hub of another deployment, with its own CA.
    let other = Deployment::new(&[]);
    assert_eq!(sync(pose(identity_of(&other, "hub"))), Code::UntrustedCertificate);
    // No TLS at all.
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = plain.local_addr().unwrap();
    std::thread::spawn(move || {
        let _ = plain.accept().unwrap().0.write_all(b"220 smtp.example ESMTP ready\r\n");
    });
    let code = sync(at);
    assert!(matches!(code, Code::Tls | Code::Cut), "{code}");
    // Nobody there.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(sync(closed), Code::Unreachable);
    // And a clinic's directory is not served by the daemon either.
    let options = ropeway_mio::daemon::DaemonOptions::new("127.0.0.1:0".parse().unwrap());
    let e = ropeway_mio::daemon::Daemon::bind(s.d.dir("clinic_b"), options).unwrap_err();
    assert_eq!(e.code, Code::NotAHub);
    s.others_still_sync();
}

#[test]
fn a_clinics_name_that_another_deployment_signed_is_no_way_in_for_sync_either() {
    let s = scene(Policy::Own);
    let other = Deployment::new(&["clinic_a"]);
    let e = other.open("clinic_a").sync(&s.hub.address.to_string(), &Default::default(), |_| ()).unwrap_err();
    // It does not trust the hub, before the hub could refuse it.
    assert_eq!(e.error.code, Code::UntrustedCertificate);
    // A second hub of this deployment may be served from another directory.
    s.d.enroll("hub_2", Role::Hub);
    assert!(keygen::init_hub(&s.d.dir("hub_2"), name("hub_2"), Clock::System).is_err());
    s.others_still_sync();
}
