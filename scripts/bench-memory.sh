#!/usr/bin/env bash
# Peak resident memory of a clinic and of a hub, in a table.
#
#   scripts/bench-memory.sh             builds with --profile pi and measures
#   ROPEWAY=path scripts/bench-memory.sh   measures that program
#
# Needs bash, awk and Linux (/proc). The figures are VmHWM: the most that was resident, shared
# pages of the program and of libc with it.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ -z "${ROPEWAY:-}" ]; then
    cargo build --quiet --profile pi -p ropeway-mio --bin ropeway
    ROPEWAY=${CARGO_TARGET_DIR:-target}/pi/ropeway
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

# peak PID: VmHWM in KiB, while the process lives
peak() { awk '/^VmHWM:/ { print $2 }' "/proc/$1/status" 2>/dev/null || true; }

# watch COMMAND...: runs it and prints its peak in KiB
watch_peak() {
    "$@" >"$work/out" 2>"$work/err" &
    local pid=$! most=0 now
    while kill -0 "$pid" 2>/dev/null; do
        now=$(peak "$pid")
        [ -z "$now" ] || most=$now
        sleep 0.005
    done
    if ! wait "$pid"; then
        cat "$work/err" >&2
        exit 1
    fi
    echo "$most"
}

start_hub() {
    "$ROPEWAY" serve --data-dir "$work/hub" --bind 127.0.0.1:0 "$@" >"$work/listening" 2>"$work/hub.log" &
    hub=$!
    until grep -q '^listening on ' "$work/listening"; do
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

row() { awk -v what="$1" -v kib="$2" -v target="$3" 'BEGIN {
    printf "| %-52s | %8.2f | %6s |\n", what, kib / 1024, target }'; }

"$ROPEWAY" keygen "$work/hub" --hub >/dev/null
echo "| peak resident memory                                 |      MiB | target |"
echo "|------------------------------------------------------|---------:|-------:|"

for n in 5000 200000; do
    clinic "c$n" 0 0
    row "ropeway push, $n events" "$(events "$n" 1 >"$work/events"; watch_peak "$ROPEWAY" push --quiet --data-dir "$work/c$n" --ndjson "$work/events")" 4
    start_hub
    row "ropeway sync, $n events waiting" "$(watch_peak "$ROPEWAY" sync --data-dir "$work/c$n" --hub "$address")" 4
    row "ropeway serve, its hub meanwhile" "$(peak "$hub")" 6
    stop_hub
    row "ropeway sync, $n events, nothing waiting" "$(start_hub; watch_peak "$ROPEWAY" sync --data-dir "$work/c$n" --hub "$address"; stop_hub)" 4
done

# A hub of its own: five clinics at once.
rm -rf "$work/hub"
"$ROPEWAY" keygen "$work/hub" --hub >/dev/null
for c in 1 2 3 4 5; do
    clinic "five_$c" 1000 "$c"
done
for sessions in 256 16; do
    [ "$sessions" = 256 ] || {
        rm -rf "$work/hub/log"
        mkdir -m 700 "$work/hub/log"
    }
    start_hub --max-sessions "$sessions"
    row "ropeway serve, idle, --max-sessions $sessions" "$(peak "$hub")" 6
    pids=()
    for c in 1 2 3 4 5; do
        "$ROPEWAY" sync --quiet --data-dir "$work/five_$c" --hub "$address" &
        pids+=($!)
    done
    for pid in "${pids[@]}"; do wait "$pid"; done
    row "ropeway serve, 5 clinics of 1000, --max-sessions $sessions" "$(peak "$hub")" 6
    stop_hub
done
