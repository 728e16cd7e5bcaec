//! The core goes on machines without an operating system, which nobody has at hand when testing.
#![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

use std::path::Path;

fn sources(dir: &Path, each: &mut impl FnMut(&Path, &str)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, each);
        } else if path.extension().is_some_and(|e| e == "rs") && !path.ends_with("tests.rs") {
            each(&path, &std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// The code of a file without its tests and comments: tests stand last, or in files of their own.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.ends_with("mod tests {"))
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or_default()))
}

#[test]
fn the_core_uses_no_operating_system_outside_of_tests() {
    let (mut files, root) = (0, Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    sources(&root, &mut |path, text| {
        files += 1;
        let mut before = "";
        for (line, code) in code(text) {
            // Features of the simulator and the fuzzer, which are not part of what is shipped.
            let allowed = before.contains("feature = \"planted\"") || path.starts_with(root.join("fuzz"));
            assert!(!code.contains("std::") || allowed, "{}:{line}: {code}", path.display());
            before = code;
        }
    });
    assert!(files > 30, "only {files} files were found");
}

#[test]
fn the_core_allocates_only_where_the_feature_alloc_says_so() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    sources(&root, &mut |path, text| {
        // Modules that are there only with the feature.
        let modules = ["fuzz", "medium/ram.rs", "codec/toy.rs", "codec/toy"];
        let gated = modules.iter().any(|m| path.starts_with(root.join(m)));
        let mut before = "";
        for (line, code) in code(text) {
            let features = ["feature = \"alloc\"", "feature = \"planted\"", "cfg(any(feature"];
            let allowed = gated || features.iter().any(|f| before.contains(f));
            // `Lent` and the boxed codec name their memory inside of gated items.
            let typed = code.contains("alloc::boxed::Box<") || code.contains("alloc::vec![value; n]");
            let uses = code.trim_start().starts_with("use alloc::") || code.contains(" alloc::");
            assert!(!uses || allowed || typed, "{}:{line}: {code}", path.display());
            before = code;
        }
    });
}
