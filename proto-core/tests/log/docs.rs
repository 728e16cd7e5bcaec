//! docs/LOG.md says what the code does.

use std::fs;
use std::path::PathBuf;

use ropeway_core::log::{Place, Row, TABLE, Tail};

fn text() -> String {
    fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/LOG.md")).unwrap()
}

fn line(number: usize, row: &Row) -> String {
    let flag = |f: Option<bool>| f.map_or("any", |f| if f { "yes" } else { "no" });
    let tails: Vec<_> = row.tail.iter().map(|t: &Tail| format!("{t:?}")).collect();
    let places: Vec<_> = row.place.iter().map(|p: &Place| format!("{p:?}")).collect();
    let or_any = |names: Vec<String>| if names.is_empty() { "any".into() } else { names.join(", ") };
    format!(
        "| {number} | {} | {} | {} | {} | {} | {:?} |",
        or_any(tails),
        flag(row.later_valid),
        flag(row.long),
        flag(row.covered),
        or_any(places),
        row.verdict
    )
}

#[test]
fn the_recovery_table_in_the_docs_is_the_one_in_the_code() {
    let text = text();
    let start = text.find("<a id=\"recovery-3\"></a>").unwrap();
    let rows = text[start..].lines().skip_while(|l| !l.starts_with("| 1 |")).take_while(|l| l.starts_with('|'));
    let expected: Vec<_> = TABLE.iter().zip(1..).map(|(row, n)| line(n, row)).collect();
    assert_eq!(rows.collect::<Vec<_>>(), expected, "\n{}", expected.join("\n"));
}
