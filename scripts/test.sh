#!/usr/bin/env bash
# Install, lint, types, tests. CI runs it with --slow.
#   ./scripts/test.sh [--slow] [PYTEST OPTIONS]     --slow adds the tests marked "slow"; -n 1: one file at a time, not two
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/install.sh
selection=(-m "not slow")
if [ "${1:-}" = --slow ]; then
    selection=()
    shift
fi
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@"
