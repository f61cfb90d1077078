#!/usr/bin/env bash
# Run process/process_images.py where the machines are: on a Ray cluster, on Anyscale, or here.
#   scripts/run.sh [OPTIONS of process_images.py ...]     without any, those of scripts/job.yaml
# With RAY_ADDRESS=http://HEAD:8265 it is submitted to that cluster as a job, whose nodes have tarloom's requirements;
# else to Anyscale where the command `anyscale` is installed; else it runs here, and with --engine ray joins the
# cluster that RAY_ADDRESS=HEAD:6379 names. HF_TOKEN and AWS_* of the environment are handed on, but on no command line;
# Ray shows them, as all of a job's environment, to whoever may look at its dashboard.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python}"

case "${1:-}" in -h | --help)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

words=("$@")
if [ $# -eq 0 ]; then
    listed="$("$python" -c '
import shlex, sys, yaml
print(*shlex.split(yaml.safe_load(open(sys.argv[1]))["entrypoint"])[2:], sep="\n")' "$root/scripts/job.yaml")"
    mapfile -t words <<<"$listed"
fi

mapfile -t names < <(compgen -e | grep -E '^(HF_TOKEN|HF_ENDPOINT|AWS_[A-Z_]+)$' || true)

if [[ "${RAY_ADDRESS:-}" == http* ]]; then
    environment="$("$python" -c '
import json, os, sys
print(json.dumps({"env_vars": {"PYTHONPATH": ".", **{name: os.environ[name] for name in sys.argv[1:]}}}))' "${names[@]}")"
    cd "$root"
    exec ray job submit --address "$RAY_ADDRESS" --working-dir . --runtime-env <(printf '%s' "$environment") -- \
        python process/process_images.py "${words[@]}"
elif command -v anyscale >/dev/null; then
    umask 077 # for nobody else to read
    private="$(mktemp -d)"
    trap 'rm -rf "$private"' EXIT
    "$python" -c '
import os, sys, yaml
job = yaml.safe_load(open(sys.argv[1]))
job["env_vars"] |= {name: os.environ[name] for name in sys.argv[2:]}
yaml.safe_dump(job, sys.stdout)' "$root/scripts/job.yaml" "${names[@]}" >"$private/job.yaml"
    cd "$root"
    anyscale job submit -f "$private/job.yaml" -- python process/process_images.py "${words[@]}"
    exit
fi
exec "$python" "$root/process/process_images.py" "${words[@]}"
