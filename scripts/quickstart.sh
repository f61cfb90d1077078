#!/usr/bin/env bash
# The main job, end to end and offline: install, serve pictures on loopback, create shards from a URL list with Ray,
# read them back with every reader, caption and embed them, verify, and leave a report to look at.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
./scripts/install.sh
exec .venv/bin/python scripts/quickstart.py "$@"
