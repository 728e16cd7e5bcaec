#!/usr/bin/env bash
# Peak resident memory of a clinic and of a hub, in a table.
#
#   scripts/bench-memory.sh             builds a static program with --profile pi and measures
#   ROPEWAY=path scripts/bench-memory.sh   measures that program
#
# Needs bash, awk and Linux (/proc). "resident" is VmHWM: the most that was in memory, pages of the
# program's file and of libc with it, which the system may drop and several processes share.
# "private" is RssAnon: what the process itself filled; sampled, so a short peak may be missed.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${ROPEWAY:-}" ]; then
    # Static, as it goes on a Pi: a shared libc costs a small program 1.5 MiB.
    host=$(rustc -vV | awk '/^host:/ { print $2 }')
    RUSTFLAGS="-C target-feature=+crt-static" \
        cargo build --quiet --profile pi -p ropeway-mio --bin ropeway --target "$host"
    ROPEWAY=${CARGO_TARGET_DIR:-target}/$host/pi/ropeway
fi
work=$(mktemp -d)
hub=
finish() {
    [ -z "$hub" ] || kill -KILL "$hub" 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# events N SEED: vital signs as clinics write them, one JSON object a line
events() {
    awk -v n="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        split("registration triage vitals consultation dispensing referral", kind, " ")
        for (i = 1; i <= n; i++)
            printf "{\"patient_id\":\"BT-%05d\",\"event\":\"%s\",\"t\":%d,\"bp\":\"%d/%d\",\"pulse\":%d,\"temp_c\":%.1f,\"by\":\"nurse_%d\"}\n",
                rand() * 90000, kind[1 + int(rand() * 6)], 1760000000 + i * 37, 95 + rand() * 70, 55 + rand() * 45,
                55 + rand() * 60, 36 + rand() * 3, rand() * 8
    }'
}

# peak PID: "VmHWM RssAnon" in KiB, while the process lives
peak() { awk '/^VmHWM:/ { all = $2 } /^RssAnon:/ { own = $2 } END { if (all) print all, own }' "/proc/$1/status" 2>/dev/null || true; }

# watch_peak COMMAND...: runs it and prints the same, at its highest
watch_peak() {
    "$@" >"$work/out" 2>"$work/err" &
    local pid=$!
    while kill -0 "$pid" 2>/dev/null; do
        peak "$pid"
        sleep 0.005
    done | awk '{ if ($1 > all) all = $1; if ($2 > own) own = $2 } END { print all, own }'
    if ! wait "$pid"; then
        cat "$work/err" >&2
        exit 1
    fi
}

start_hub() {
    rm -f "$work/listening"
    "$ROPEWAY" serve --data-dir "$work/hub" --bind 127.0.0.1:0 "$@" >"$work/listening" 2>"$work/hub.log" &
    hub=$!
    until grep -qs '^listening on ' "$work/listening"; do
        kill -0 "$hub" || { cat "$work/hub.log" >&2; exit 1; }
        sleep 0.02
    done
    address=$(awk '{ print $3 }' "$work/listening")
}

stop_hub() {
    kill -TERM "$hub"
    wait "$hub" || true
    hub=
}

# clinic NAME EVENTS SEED: a node with events that wait
clinic() {
    "$ROPEWAY" keygen "$work/$1" --node "$1" >/dev/null
    "$ROPEWAY" sign "$work/$1/tls/node.csr" --ca "$work/hub" >/dev/null
    events "$2" "$3" | "$ROPEWAY" push --quiet --data-dir "$work/$1" --ndjson -
}

# row WHAT "ALL OWN" TARGET
row() {
    awk -v what="$1" -v kib="$2" -v target="$3" 'BEGIN {
        split(kib, k, " ")
        printf "| %-54s | %8.2f | %7.2f | %6s |\n", what, k[1] / 1024, k[2] / 1024, target }'
}

"$ROPEWAY" keygen "$work/hub" --hub >/dev/null
echo "| peak memory in MiB                                     | resident | private | target |"
echo "|--------------------------------------------------------|---------:|--------:|-------:|"

# A thin link lets the model in; a fast one takes it back after the first batches, whatever is allowed.
thin="--rate 2875"

for n in 5000 200000; do
    clinic "c$n" 0 0
    events "$n" 1 >"$work/events"
    row "ropeway push, $n events" "$(watch_peak "$ROPEWAY" push --quiet --data-dir "$work/c$n" --ndjson "$work/events")" 4
    start_hub
    row "ropeway sync, $n events waiting" "$(watch_peak "$ROPEWAY" sync --data-dir "$work/c$n" --hub "$address")" 7
    row "ropeway serve meanwhile" "$(peak "$hub")" 10
    row "ropeway sync, $n events there, none waiting" "$(watch_peak "$ROPEWAY" sync --data-dir "$work/c$n" --hub "$address")" 4
    stop_hub
done

for states in 2 1 0; do
    clinic "thin$states" 2500 1
    events 2500 2 | "$ROPEWAY" push --quiet --data-dir "$work/thin$states" --lane bulk --ndjson -
    start_hub
    row "ropeway sync $thin --model-states $states, 2 lanes" \
        "$(watch_peak "$ROPEWAY" sync --data-dir "$work/thin$states" --hub "$address" $thin --model-states $states)" \
        $((states > 0 ? 7 : 4))
    stop_hub
done

# A hub of its own for five clinics at once.
for states in 5 1 0; do
    rm -rf "$work"/hub "$work"/five_*
    "$ROPEWAY" keygen "$work/hub" --hub >/dev/null
    for c in 1 2 3 4 5; do clinic "five_$c" 1000 "$c"; done
    start_hub --max-sessions 16 --model-states $states
    [ $states -lt 5 ] || row "ropeway serve --max-sessions 16, idle" "$(peak "$hub")" 6
    pids=()
    for c in 1 2 3 4 5; do
        "$ROPEWAY" sync --quiet --data-dir "$work/five_$c" --hub "$address" $thin &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid" || { echo "a sync failed" >&2; exit 1; }; done
    row "ropeway serve --model-states $states, 5 clinics of 1000 events" "$(peak "$hub")" $((states > 0 ? 10 : 6))
    stop_hub
done
