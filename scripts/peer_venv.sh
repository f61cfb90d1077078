#!/usr/bin/env bash
# Make the virtual environment of a peer that tarloom is tested or measured against, and print its Python's path.
#   scripts/peer_venv.sh NAME       NAME.txt in scripts/peers says what is installed; without NAME they are listed
# It lies below the user's cache and is made once; again when its list changes. PYTHON chooses the interpreter.
# Exit code 3: the packages cannot be had here; the last line on stderr says why.
set -euo pipefail

PEERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/peers
NAME=${1:-}
if [ -z "$NAME" ] || [ ! -r "$PEERS/$NAME.txt" ]; then
  echo "usage: peer_venv.sh NAME, one of:" >&2
  (cd "$PEERS" && ls -- *.txt | sed 's/\.txt$//; s/^/  /') >&2
  exit 2
fi

PYTHON=${PYTHON:-python3}
CACHE=${XDG_CACHE_HOME:-$HOME/.cache}/tarloom/peers
VENV=$CACHE/$NAME
STAMP=$({ "$PYTHON" --version; cat "$PEERS/$NAME.txt"; } | cksum)

lacks() {
  echo "peer_venv.sh: $*" >&2
  exit 3
}

make_venv() {
  rm -rf "$VENV"
  "$PYTHON" -m venv "$VENV" >&2 || lacks "$PYTHON cannot make virtual environments (Debian: install python3-venv)"
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$PEERS/$NAME.txt" >&2 ||
    lacks "the packages of $NAME cannot be installed here; it needs a reachable package index"
  echo "$STAMP" >"$VENV/peer-made"
}

mkdir -p "$CACHE"
exec 9>"$CACHE/$NAME.lock"
flock 9 # two test runs at once make it once
[ "$(cat "$VENV/peer-made" 2>/dev/null)" = "$STAMP" ] || make_venv
echo "$VENV/bin/python"
