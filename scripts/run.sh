#!/usr/bin/env bash
# Run process/process_images.py where the machines are: on a Ray cluster, on Anyscale, or here.
#   scripts/run.sh [OPTIONS of process_images.py ...]     without any, those of scripts/job.yaml
# With RAY_ADDRESS=http://HEAD:8265 it is submitted to that cluster as a job, whose nodes have tarloom's requirements;
# else to Anyscale where the command `anyscale` is installed; else it runs here, and with --engine ray joins the
# cluster that RAY_ADDRESS=HEAD:6379 names. HF_TOKEN and AWS_* of the environment are handed on.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python}"

case "${1:-}" in -h | --help)
    sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac

words=("$@")
if [ $# -eq 0 ]; then
    mapfile -t words < <("$python" -c '
import shlex, sys, yaml
print(*shlex.split(yaml.safe_load(open(sys.argv[1]))["entrypoint"])[2:], sep="\n")' "$root/scripts/job.yaml")
fi

mapfile -t names < <(compgen -e | grep -E '^(HF_TOKEN|HF_ENDPOINT|AWS_[A-Z_]+)$' || true)

if [[ "${RAY_ADDRESS:-}" == http* ]]; then
    environment="$("$python" -c '
import json, os, sys
print(json.dumps({"env_vars": {"PYTHONPATH": ".", **{name: os.environ[name] for name in sys.argv[1:]}}}))' "${names[@]}")"
    cd "$root"
    exec ray job submit --address "$RAY_ADDRESS" --working-dir . --runtime-env-json "$environment" -- \
        python process/process_images.py "${words[@]}"
elif command -v anyscale >/dev/null; then
    handed=()
    for name in "${names[@]}"; do handed+=(--env "$name=${!name}"); done
    cd "$root"
    exec anyscale job submit -f scripts/job.yaml "${handed[@]}" -- python process/process_images.py "${words[@]}"
fi
exec "$python" "$root/process/process_images.py" "${words[@]}"
