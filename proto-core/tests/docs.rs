//! What the documents say is what the code does: rules that are named exist, the table of errors is
//! the one in the code, and the examples parse.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ropeway_core::code::Code;
use ropeway_core::codec::CodecId;
use ropeway_core::event::{Chain, Event};
use ropeway_core::hlc::Hlc;
use ropeway_core::id::{Incarnation, Lane, NodeName, StreamKey};
use ropeway_core::varint::Reader;
use ropeway_core::wire::batch::{BatchHead, Columns};
use ropeway_core::wire::vector::Entry;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn files_below(dir: &Path, extension: &str, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, extension, out);
        } else if path.extension().is_some_and(|e| e == extension) {
            out.push(path);
        }
    }
}

/// All `NAME.md` and `NAME.md#rule` that follow `prefix` in a text.
fn named<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = (String, Option<String>)> + 'a {
    text.match_indices(prefix).filter_map(move |(at, _)| {
        let word: String = text[at + prefix.len()..]
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || "/._-#".contains(*c))
            .collect();
        let (name, rest) = word.split_once(".md")?;
        let rule = rest.strip_prefix('#').map(|r| r.trim_end_matches(['.', '-']).to_owned());
        Some((format!("{name}.md"), rule))
    })
}

fn check(source: &Path, name: &str, rule: Option<&str>) -> Option<String> {
    let Ok(text) = fs::read_to_string(root().join("docs").join(name)) else {
        return Some(format!("{}: there is no docs/{name}", source.display()));
    };
    let rule = rule.filter(|r| !text.contains(&format!("<a id=\"{r}\"></a>")))?;
    Some(format!("{}: there is no docs/{name}#{rule}", source.display()))
}

#[test]
fn every_document_and_rule_that_the_code_names_exists() {
    let mut files = Vec::new();
    for dir in ["proto-core/src", "runtime-std/src", "runtime-mio/src"] {
        files_below(&root().join(dir), "rs", &mut files);
    }
    let (mut missing, mut seen) = (Vec::new(), 0);
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (name, rule) in named(&text, "docs/") {
            seen += 1;
            missing.extend(check(&file, &name, rule.as_deref()));
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
    assert!(seen > 40, "only {seen} found: does the search still work?");
}

#[test]
fn every_document_and_rule_that_the_documents_name_exists() {
    let mut files = Vec::new();
    files_below(&root().join("docs"), "md", &mut files);
    files.extend(["CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(|f| root().join(f)));
    let mut missing = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut links: Vec<_> = named(&text, "docs/").collect();
        // The documents name each other's rules without the folder.
        for doc in ["LOG", "KEYS", "PROTOCOL", "ERRORS"] {
            links.extend(named(&text, doc).filter(|(n, _)| n == ".md").map(|(n, r)| (format!("{doc}{n}"), r)));
        }
        for (name, rule) in links {
            missing.extend(check(&file, &name, rule.as_deref()));
        }
    }
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}

#[test]
fn every_test_that_testing_md_names_exists() {
    let mut files = Vec::new();
    for folder in ["proto-core", "runtime-std/src", "runtime-mio/src", "runtime-mio/tests", "sim", "bench/src", "tests"]
    {
        files_below(&root().join(folder), "rs", &mut files);
    }
    let code: String = files.iter().map(|f| fs::read_to_string(f).unwrap()).collect();
    let text = read("docs/TESTING.md");
    let quoted = text.split('`').skip(1).step_by(2);
    let is_test = |w: &&str| {
        w.matches('_').count() > 2 && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let missing: Vec<_> = quoted.filter(is_test).filter(|w| !code.contains(&format!("fn {w}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn no_rule_is_numbered_twice() {
    for name in ["LOG.md", "KEYS.md", "PROTOCOL.md", "ERRORS.md"] {
        let text = read(&format!("docs/{name}"));
        let mut rules: Vec<_> =
            text.split("<a id=\"").skip(1).map(|after| after.split('"').next().unwrap_or_default()).collect();
        let all = rules.len();
        rules.sort_unstable();
        rules.dedup();
        assert_eq!(rules.len(), all, "docs/{name}");
    }
}

/// What the hundreds of a code's number stand for.
const GROUPS: [(u16, &str); 7] = [
    (1, "Arguments and the data directory"),
    (2, "Keys and certificates"),
    (3, "Log and disk"),
    (4, "Protocol"),
    (5, "Connection"),
    (6, "Policy"),
    (9, "System"),
];

fn table_of_errors() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Made from `proto-core/src/code.rs` by a test (`UPDATE_EXPECT=1 cargo test -p ropeway-core --test docs`);\n\
         do not edit it by hand. A number never changes its meaning and is never used again. The same\n\
         numbers stand in messages, in `--json` and on the wire (docs/PROTOCOL.md#error-1).\n",
    );
    for (hundred, title) in GROUPS {
        let _ = write!(text, "\n## {title}\n\n| code | name | what happened | what to do |\n|---|---|---|---|\n");
        for c in Code::ALL.iter().filter(|c| c.as_u16() / 100 == hundred) {
            let n = c.as_u16();
            let cell = |s: &str| s.replace('|', "\\|");
            let (name, says, hint) = (cell(c.name()), cell(c.says()), cell(c.hint()));
            let _ = writeln!(text, "| <a id=\"r{n}\"></a>R{n} | {name} | {says} | {hint} |");
        }
    }
    text
}

#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    let expected = table_of_errors();
    for c in Code::ALL {
        assert!(expected.contains(&format!("R{} |", c.as_u16())), "{c} is in no group");
    }
    let path = root().join("docs/ERRORS.md");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "docs/ERRORS.md is old: run this test with UPDATE_EXPECT=1");
}

/// The bytes of a rule's example: hexadecimal words at the start of the indented lines after it, up
/// to the words that explain them.
fn example(rule: &str) -> Vec<u8> {
    let text = read("docs/PROTOCOL.md");
    let start = text.find(&format!("<a id=\"{rule}\"></a>")).unwrap();
    let lines = text[start..].lines().skip_while(|l| !l.starts_with("      "));
    let mut bytes = Vec::new();
    for line in lines.take_while(|l| l.starts_with("      ")) {
        let code = line.trim_start().split("   ").next().unwrap_or_default();
        let digits: Vec<char> = code.chars().filter(|c| !c.is_whitespace()).collect();
        bytes.extend(digits.chunks(2).map(|d| u8::from_str_radix(&d.iter().collect::<String>(), 16).unwrap()));
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

fn name(s: &str) -> NodeName {
    NodeName::new(s).unwrap()
}

#[test]
fn the_example_of_a_chain_is_right() {
    let key = StreamKey { node: name("clinic_a"), incarnation: Incarnation::new(7), lane: Lane::Normal };
    let start = Chain::start(&key);
    let one = start.then(&Event { hlc: Hlc::new(5, 1), kind: 2, flags: 0, payload: b"x" });
    let text = read("docs/PROTOCOL.md");
    for (label, chain) in [("h_0", start), ("h_1", one)] {
        let line = format!("      {label}  {}\n", hex(&chain.0));
        assert!(text.contains(&line), "{line}");
    }
}

#[test]
fn the_example_of_a_hello_is_the_golden_one() {
    let golden = hex(&example("hello-4"));
    assert_eq!(golden.len(), 2 * 0x12);
    assert!(read("proto-core/src/wire/control.rs").contains(&format!("\"{golden}\"")), "{golden}");
}

#[test]
fn the_example_of_a_vector_entry_is_right() {
    let bytes = example("vector-6");
    let mut r = Reader::new(&bytes);
    let e = Entry::parse(&mut r, &name("clinic_a"), &name("hub")).unwrap();
    let key = StreamKey { node: name("clinic_a"), incarnation: Incarnation::new(0x0102), lane: Lane::Normal };
    assert_eq!(e, Entry { key, seq: 300, tag: *b"tagtagta" });
    assert!(r.is_empty());
}

#[test]
fn the_examples_of_a_part_and_of_a_have_are_the_golden_ones() {
    for (rule, bytes) in [("part-8", 0x15), ("part-9", 0x16)] {
        let golden = hex(&example(rule));
        assert_eq!(golden.len(), 2 * bytes, "{rule}");
        assert!(read("proto-core/src/wire/part.rs").contains(&format!("\"{golden}\"")), "{golden}");
    }
}

#[test]
fn the_example_of_a_digest_is_the_golden_one() {
    let golden = example("digest-8");
    assert_eq!(golden, [&[2, 2][..], &[3; 15]].concat());
}

#[test]
fn the_examples_of_a_withheld_and_of_a_lacks_are_the_golden_ones() {
    for (rule, bytes) in [("withheld-10", 0x34), ("withheld-11", 0x17)] {
        let golden = hex(&example(rule));
        assert_eq!(golden.len(), 2 * bytes, "{rule}");
        assert!(read("proto-core/src/wire/withheld.rs").contains(&format!("\"{golden}\"")), "{golden}");
    }
}

#[test]
fn the_example_of_a_batch_is_right() {
    let bytes = example("batch-6");
    let mut r = Reader::new(&bytes);
    let head = BatchHead::parse(&mut r, 1 << 16).unwrap();
    assert_eq!((head.handle, head.first_seq, head.count, head.codec), (2, 41, 5, CodecId::STORED));
    assert_eq!(r.rest().len(), head.raw_bytes);
    let columns = Columns::parse(r.rest(), &head, 1 << 16).unwrap();
    let payloads: Vec<_> = columns.iter().map(|e| e.payload).collect();
    assert_eq!(payloads, [&b"first"[..], b"", b"third", b"fourth", b"fifth"]);
    assert_eq!(columns.iter().fold(Chain([3; 32]), |c, e| c.then(&e)).tag(), head.tag);
}
