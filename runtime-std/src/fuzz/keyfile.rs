//! The small files of a data directory.

use ropeway_core::log::SegmentName;

use crate::cert::key_pem;
use crate::dir::{NodeFile, hex};
use crate::identity::{parse_cert, parse_tls_key};
use crate::keygen::parse_key;
use crate::keyring::parse_key_file;
use crate::sign::parse_list;

/// The first byte chooses the file. What is accepted must be the same after it is written again.
pub fn keyfile(data: &[u8]) {
    let Some((&choice, content)) = data.split_first() else { return };
    match choice % 6 {
        0 => check_log_key(content),
        1 => check_node(content),
        2 => check_segment_name(content),
        3 => check_private_key(content),
        4 => check_certificate(content),
        _ => check_issued(content),
    }
}

/// Of a directory without keyring: digits, and white space around them.
fn check_log_key(content: &[u8]) {
    let Ok(lines) = parse_key_file(content) else { return };
    let [line] = &lines[..] else { return };
    let text = hex(&*line.key);
    if line.bare {
        assert!(content.trim_ascii().eq_ignore_ascii_case(text.as_bytes()));
    }
    assert_eq!(parse_key_file(text.as_bytes()).expect("our own")[0].key, line.key);
}

fn check_node(content: &[u8]) {
    match NodeFile::parse(content) {
        Ok(node) => assert_eq!(NodeFile::parse(&node.to_file().expect("JSON")).expect("our own"), node),
        Err(e) => assert!(!e.to_string().is_empty()),
    }
}

/// A name has one spelling.
fn check_segment_name(content: &[u8]) {
    let Ok(text) = std::str::from_utf8(content) else { return };
    if let Ok(name) = text.parse::<SegmentName>() {
        assert_eq!(name.to_string(), text);
    }
}

/// What signs requests and certificates is also a key for TLS, and the same one.
fn check_private_key(content: &[u8]) {
    let for_tls = parse_tls_key(content);
    let Ok(key) = parse_key(content) else { return };
    let public = rcgen::PublicKeyData::subject_public_key_info(&key);
    let again = key_pem(&key);
    let read = parse_key(again.as_bytes()).expect("our own");
    assert_eq!(rcgen::PublicKeyData::subject_public_key_info(&read), public);
    for tls in [for_tls, parse_tls_key(again.as_bytes())] {
        let tls = tls.expect("keygen and TLS read the same keys");
        assert_eq!(tls.public_key().expect("it has one").as_ref(), public);
    }
}

/// A certificate is looked at elsewhere; here is what stands around it.
fn check_certificate(content: &[u8]) {
    let Ok(der) = parse_cert(content) else { return };
    assert!(der.len() < content.len());
    let again = pem(&der);
    assert_eq!(parse_cert(again.as_bytes()).expect("our own"), der);
    assert!(parse_cert(again.repeat(2).as_bytes()).is_err(), "two are none");
}

fn pem(der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut body = String::new();
    for three in der.chunks(3) {
        let bits = three.iter().fold(0u32, |bits, b| bits << 8 | u32::from(*b)) << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            body.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
}

fn check_issued(content: &[u8]) {
    let Ok((records, whole)) = parse_list(content) else { return };
    assert!(whole == content.len() || !content[whole..].contains(&b'\n'), "only the torn end is left out");
    let lines: String = records.iter().map(|r| r.line().expect("JSON")).collect();
    let (again, all) = parse_list(lines.as_bytes()).expect("our own");
    assert_eq!((again, all), (records, lines.len()));
}
