//! What each predictor earns: the same without it.

use crate::Result;
use crate::corpus::Corpus;
use crate::table::Table;

/// Fails if this build cannot leave predictors out.
#[cfg(not(feature = "ablation"))]
pub(super) fn is_possible() -> Result<()> {
    Err("this build cannot leave predictors out, since nothing that is shipped can; make one that can: cargo run \
         --release -p ropeway-bench --features ablation -- codec --ablation"
        .into())
}

/// Fails if this build cannot leave predictors out.
#[cfg(feature = "ablation")]
pub(super) fn is_possible() -> Result<()> {
    Ok(())
}

#[cfg(not(feature = "ablation"))]
pub(super) fn measure(_: &[Corpus]) -> Result<Table> {
    is_possible().map(|()| Table::new("ablation", "", &[]))
}

#[cfg(feature = "ablation")]
pub(super) fn measure(corpora: &[Corpus]) -> Result<Table> {
    use crate::table::Cell;
    use ropeway_codec::{Model, PREDICTORS, Preset};

    let mut table = Table::new(
        "ablation",
        "Corpora cold, without one predictor each",
        &[("corpus", "corpus"), ("without", "without"), ("bytes_per_event", "B/event"), ("loss_percent", "loss (%)")],
    );
    let bar = crate::progress::bar("predictors", (corpora.len() * (PREDICTORS.len() + 1)) as u64);
    for corpus in corpora {
        let records = corpus.records(0, corpus.len());
        let cost = |off: u32| {
            let mut out = Vec::new();
            Model::without(Preset::Large, off).encode(&records, &mut out);
            bar.inc(1);
            out.len() as f64 / corpus.len() as f64
        };
        let all = cost(0);
        let mut row = |without: &str, bytes: f64| {
            let loss = (bytes / all - 1.0) * 100.0;
            let [name, without] = [corpus.name.as_str(), without].map(|t| Cell::Text(t.into()));
            table.row(vec![name, without, Cell::Figure(bytes, 3), Cell::Figure(loss, 2)]);
        };
        row("(nothing)", all);
        for (name, bit) in PREDICTORS {
            row(name, cost(1 << bit));
        }
    }
    bar.finish_and_clear();
    table.note("Percent more bytes without it; below zero: fewer. Large tables, all events in one batch.");
    Ok(table)
}

#[cfg(all(test, not(feature = "ablation")))]
mod tests {
    use super::*;

    #[test]
    fn a_build_without_the_feature_says_how_to_make_one() {
        assert!(is_possible().unwrap_err().to_string().contains("--features ablation"));
    }
}
