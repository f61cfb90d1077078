#!/usr/bin/env bash
# Make shards with several processes side by side: the plan is made once, then each process makes a slice of it.
#   scripts/run_parallel.sh SOURCE OUTPUT [WORKERS] [OPTIONS of create/create_webdataset.py ...]
#   scripts/run_parallel.sh urls.csv shards 8 --caption-col caption --image-size 256
# WORKERS is the number of processors where it is left out. Safe to repeat: what is done is skipped.
# The exit code is that of the first process that stopped by an error; else 3 where more shards failed, of all processes,
# than --max-failed; 130 after Ctrl-C.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python}"

# The work goes on wherever what is said of it leads: to a reader who leaves, to a full disk, or nowhere.
trap '' PIPE
[ -e /dev/fd/1 ] || exec >/dev/null
[ -e /dev/fd/2 ] || exec 2>/dev/null

tell() { printf '%s\n' "$*" 2>/dev/null || true; }

say() { tell "[run_parallel] $*" >&2; }

usage() {
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" 2>/dev/null || true
    exit "$1"
}

as_json=
[[ " $* " != *" --json "* ]] || as_json=yes

stop() { # CODE MESSAGE, which has nothing that JSON would write otherwise: where there are no figures to end with
    say "$2"
    [ -z "$as_json" ] || tell "{\"exit_code\": $1, \"error\": \"$2\"}"
    exit "$1"
}

for word; do
    case "$word" in
    -h | --help) usage 0 ;;
    --shards | --shards=* | --plan[-_]only)
        stop 2 "${word%%=*} is for this script to give: it makes all of the plan, each worker a slice"
        ;;
    esac
done
[ $# -ge 2 ] || usage 2 >&2
command -v -- "$python" >/dev/null || stop 2 "there is no $python: activate the environment of tarloom, or name its Python by PYTHON"
create=("$root/create/create_webdataset.py" --source "$1" --output "$2")
shift 2
workers=
case "${1:-}" in
'' | *[!0-9]*) workers="$("$python" -c 'import os; print(os.cpu_count())')" ;;
*)
    workers="$1"
    shift
    ;;
esac
[ "$workers" -ge 1 ] || stop 2 "WORKERS must be at least 1, not $workers"

# Only the plan extends or overwrites the output: the workers go on with what it then is. And how many shards may fail is
# said of all workers together.
words=()
mode=
max_failed=0
for ((word = 1; word <= $#; word++)); do
    option="${!word}"
    case "$option" in
    --incremental[-_]mode | --max[-_]failed)
        word=$((word + 1))
        value="${!word:-}"
        ;;
    --incremental[-_]mode=* | --max[-_]failed=*) value="${option#*=}" ;;
    *)
        words+=("$option")
        continue
        ;;
    esac
    case "$option" in
    --incremental*) mode="$value" ;;
    *) max_failed="$value" ;;
    esac
done
same="run the same command again" # workers say so too, and do not know the mode
again="$same to go on"
[ "$mode" != overwrite ] || again+=", but without --incremental-mode overwrite"

# A worker is stopped as by Ctrl-C when this script ends without a word: killed, or by a shell that crashed.
leash='
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 2)  # PR_SET_PDEATHSIG, SIGINT
if os.getppid() != int(sys.argv[1]):
    sys.exit(130)
os.execvp(sys.argv[2], sys.argv[2:])
'

results="$(mktemp -d 2>/dev/null)" || stop 1 "no temporary folder can be made: let TMPDIR name a place that can be written to"
pids=()
trap 'rm -rf "$results"' EXIT

# shellcheck disable=SC2317  # called by the trap
interrupted() {
    trap '' INT TERM HUP
    say "interrupted; stopping the workers"
    [ ${#pids[@]} -eq 0 ] || kill -INT "${pids[@]}" 2>/dev/null || true
    wait
    stop 130 "interrupted; $again"
}
trap interrupted INT TERM HUP

field() { "$python" -c 'import json, sys; print(json.loads(sys.argv[1])[sys.argv[2]])' "$1" "$2"; }

planned=0
plan="$("$python" "${create[@]}" "$@" --plan-only --json | tail -n 1)" || planned=$?
if [ "$planned" -ne 0 ]; then
    [ -z "$as_json" ] || tell "$plan"
    exit "$planned"
fi
shards="$(field "$plan" shards)"
say "$(field "$plan" rows) rows in $shards shards"
[ "$workers" -le "$shards" ] || workers="$shards"

started=$SECONDS
set -m # each worker in a process group of its own: Ctrl-C reaches this script, which stops them
for ((worker = 0; worker < workers; worker++)); do
    slice="$((worker * shards / workers)):$(((worker + 1) * shards / workers))"
    "$python" -c "$leash" $$ "$python" "${create[@]}" ${words[@]+"${words[@]}"} --shards "$slice" --json >"$results/$worker" \
        2> >(trap '' INT && exec sed -uE "s/^/[$((worker + 1))] /; s/$same( to go on)*/$again/" >&2) &
    pids+=("$!")
done

code=0
for ((worker = 0; worker < workers; worker++)); do
    ended=0
    wait "${pids[worker]}" || ended=$?
    [ "$ended" -eq 0 ] || say "worker $((worker + 1)) ended with exit code $ended; $again"
    case "$code" in 0 | 3) [ "$ended" -eq 0 ] || code=$ended ;; esac # errors first: failed shards are counted below
done

"$python" - "$results" "$((SECONDS - started))" "$workers" "$code" "$max_failed" "$as_json" <<'SUMMARY'
import collections, json, pathlib, sys

from tarloom.cli.streams import reader_may_leave
from tarloom.errors import TarloomError

folder, seconds, workers, code, max_failed, as_json = sys.argv[1:]
paths = sorted(pathlib.Path(folder).iterdir(), key=lambda path: int(path.name))
lines = [path.read_text().splitlines()[-1:] for path in paths]
said = [json.loads(line[0]) for line in lines if line and line[0].startswith("{")]
found = [part for part in said if "rows" in part]
why = [part["error"] for part in said if "error" in part]
total = {name: sum(part[name] for part in found) for name in ("rows", "successes", "bytes", "shards", "skipped")}
lost = {shard: why for part in found for shard, why in part["failed_shards"].items()}
code = int(code)
if code in (0, 3):
    code = 3 if len(lost) > int(max_failed) else 0
try:
    with reader_may_leave(exit_code=code):
        print("{rows} rows, {successes} pictures, {shards} shards ({skipped} done before)".format(**total), end=" ")
        print(f"in {seconds} s by {workers} processes")
        errors = sum((collections.Counter(part["failed_by_error"]) for part in found), collections.Counter())
        if errors:
            print("failed by error:", ", ".join(f"{name} {count:,}" for name, count in errors.most_common()))
        if lost:
            print("failed shards:", *(f"  {shard}: {reason}" for shard, reason in sorted(lost.items())), sep="\n")
        if as_json:
            total |= {"failed_by_error": dict(errors.most_common()), "failed_shards": lost, "seconds": float(seconds)}
            print(json.dumps({"exit_code": code, **total, **({"error": why[0]} if why else {})}))
except TarloomError as error:
    sys.exit(f"[run_parallel] error: {error}")
sys.exit(code)
SUMMARY
