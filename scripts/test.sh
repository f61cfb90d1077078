#!/usr/bin/env bash
# Install, lint, types, tests. CI runs it with --slow.
#   ./scripts/test.sh [--slow|--all] [PYTEST OPTIONS]     -n 1: one file at a time, not two
# --slow adds the tests marked "slow", --all those marked "long", too: slow ones whose like is among the others.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/install.sh
selection=(-m "not slow and not long")
case "${1:-}" in
--slow)
    selection=(-m "not long")
    shift
    ;;
--all)
    selection=()
    shift
    ;;
esac
.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
exec .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder "${selection[@]}" "$@"
