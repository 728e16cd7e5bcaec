//! The end of each verb's `--help`: lines to copy. A test parses every one of them.

macro_rules! examples {
    ($($(#[$doc:meta])* $name:ident $text:literal;)*) => {
        $($(#[$doc])* pub(super) const $name: &str = concat!("Examples:\n", $text);)*

        #[cfg(test)]
        pub(super) const ALL: &[&str] = &[$($name),*];
    };
}

examples! {
    DEMO "  ropeway demo
  ropeway demo --clinics 5 --events 2000 --profile edge --speed 10
  ropeway demo --no-cut --seed 7 --json";
    KEYGEN "  ropeway keygen /var/lib/ropeway/hub --hub
  ropeway keygen /var/lib/ropeway/clinic_a --node clinic_a";
    SIGN "  ropeway sign /var/lib/ropeway/clinic_a/tls/node.csr --ca /var/lib/ropeway/hub
  ropeway sign node.csr --ca /var/lib/ropeway/hub --replace     # clinic_a has a new device";
    SERVE "  ropeway serve --data-dir /var/lib/ropeway/hub --bind 0.0.0.0:7700
  RUST_LOG=debug ropeway serve --data-dir hub --bind 127.0.0.1:0 --max-sessions 20
  ropeway serve --data-dir hub --bind 0.0.0.0:7700 --early-data
  ropeway serve --data-dir hub --bind 0.0.0.0:7700 --max-event 100KiB --refuse-kind 7,9";
    PUSH "  ropeway push --data-dir clinic_a --payload '{\"patient_id\":\"BT-0042\"}'
  ropeway push --data-dir clinic_a --payload '{\"alarm\":\"cholera\"}' --lane urgent --kind 7
  ropeway push --data-dir clinic_a --ndjson events.ndjson
  ropeway push --data-dir clinic_a --stdin --lane bulk < xray.jpg";
    SYNC "  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700
  ropeway sync --data-dir clinic_a --hub hub.example.org:7700 --timeout-s 600
  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700 --keep          # a clinic's daemon
  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700 --keep --early-data
  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700 --budget 5M --window 22:00-05:30
  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700 --max-bytes 200K --rate 2K
  ropeway sync --data-dir clinic_a --hub 192.168.1.10:7700 --budget 5M --urgent-overdraft 100K --dry-run";
    PULL "  ropeway pull --data-dir hub --node clinic_a --from 100
  ropeway pull --data-dir hub --lane urgent --follow
  ropeway pull --data-dir hub --since 2d --kind 7,9
  ropeway pull --data-dir hub --since 2026-03-01 --until 2026-04-01T00:00:00Z
  ropeway pull --data-dir hub --raw | jq .patient_id";
    STATUS "  ropeway status --data-dir clinic_a
  ropeway status --data-dir clinic_a --json | jq .";
    VERIFY "  ropeway verify --data-dir clinic_a
  ropeway verify --data-dir clinic_a --json || echo damaged
  ropeway verify --data-dir clinic_a --quick     # without the key";
    AUDIT "  ropeway audit --data-dir hub --since 6h
  ropeway audit --data-dir hub --node clinic_a --json | jq .chain
  ropeway audit --data-dir hub --heads > heads-of-march     # keep it elsewhere
  ropeway audit --data-dir hub --check-head heads-of-march";
    SNAPSHOT "  ropeway snapshot /backup/hub-2026-03-01 --data-dir /var/lib/ropeway/hub
  ropeway snapshot /backup/hub-2026-03-01 --data-dir /var/lib/ropeway/hub --with-key";
    RESTORE "  ropeway restore /backup/hub-2026-03-01 --dir /var/lib/ropeway/hub --keys safe/keys --identity safe/tls
  ropeway restore /backup/clinic_a --dir /var/lib/ropeway/clinic_a --keys safe/keys
  ropeway restore /backup/hub-2026-03-01 --dir /var/lib/ropeway/hub_2 --keys safe/keys     # after keygen and sign";
    REKEY "  ropeway rekey --data-dir clinic_a                         # a new key in the same place
  ropeway rekey --data-dir clinic_a --to-passphrase --data
  ropeway rekey --data-dir clinic_a --to-file /etc/ropeway/clinic_a.key
  ropeway rekey --data-dir clinic_a --data                  # a new data key from now on";
    KEY "  ropeway key list --data-dir clinic_a
  ropeway key list --data-dir clinic_a --json | jq .current";
    RETAIN "  ropeway retain --data-dir clinic_a --age 90d
  ropeway retain --data-dir clinic_a --age 26w --bytes 4GiB --keep-at-least 1000
  ropeway retain --data-dir clinic_a --show
  ropeway retain --data-dir clinic_a --off";
    EXPIRE "  ropeway expire --data-dir clinic_a --dry-run
  ropeway expire --data-dir clinic_a
  ropeway expire --data-dir hub --dry-run --json | jq '.segments[] | select(.goes | not)'";
    FETCH "  ropeway fetch --data-dir hub --dry-run
  ropeway fetch --data-dir hub                              # then `serve` without --max-event
  ropeway fetch --data-dir hub --node clinic_a --json | jq .asked
  ropeway fetch --data-dir hub --cancel";
    BACKUP_MARK "  ropeway backup-mark --data-dir hub --snapshot /backup/hub-2026-03-01
  ropeway backup-mark --data-dir hub --now                  # after a backup of another kind
  ropeway backup-mark --data-dir hub                        # shows the mark";
    SAMPLE "  ropeway sample --data-dir hub --set invented-events.ndjson   # before `sign`: clinics get it with their certificate
  ropeway sample --data-dir clinic_a                          # the tag must be the hub's
  ropeway sample --data-dir clinic_a --remove";
    COMPLETIONS "  ropeway completions bash > /etc/bash_completion.d/ropeway
  ropeway completions zsh > ~/.zfunc/_ropeway";
}
