//! The link of packets, as the program uses it: root and TUN devices are needed, and missed with a sentence.

use std::process::{Command, Output, Stdio};

fn bench(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ropeway-bench"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[cfg(target_os = "linux")]
#[test]
fn a_lossy_sync_of_real_processes_over_packets_ends_with_all_events_at_the_hub_and_leaves_nothing_behind() {
    let child = bench(&["wire", "--only", "packets", "--quick", "--json"]).spawn().unwrap();
    let device = format!("rw{:x}.", child.id());
    let output = child.wait_with_output().unwrap();
    let said = said(&output);
    assert!(output.status.success(), "{said}");
    if said.contains("is skipped") {
        println!("skipped: {said}");
        return;
    }
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &json["packets_taste"]["rows"][0];
    // It has compared what the hub holds; the seed loses packets.
    assert_eq!(row["events"], 400, "{said}");
    assert!(row["lost_packets"].as_u64().unwrap() > 0, "{said}");
    let left = std::fs::read_dir("/sys/class/net").unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with(&device)));
}

#[cfg(target_os = "linux")]
#[test]
fn without_the_right_to_a_network_of_its_own_the_part_is_skipped_with_a_sentence() {
    // As nobody: then there is no namespace, whatever the machine.
    let mut other = Command::new("setpriv");
    other.args(["--reuid=65534", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"]);
    other.arg(env!("CARGO_BIN_EXE_ropeway-bench")).args(["wire", "--only", "packets", "--quick"]);
    let Ok(output) = other.output() else { return println!("skipped: there is no setpriv") };
    if !output.status.success() {
        return println!("skipped: {}", said(&output));
    }
    let said = said(&output);
    assert!(said.contains("is skipped: it needs root"), "{said}");
}
