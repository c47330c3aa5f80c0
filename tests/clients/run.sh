#!/bin/sh
# Tests the server with client libraries of other projects: socket.io-client and ws in Node, python-socketio in Python,
# and rust_socketio.
#
#   tests/clients/run.sh            all suites
#   tests/clients/run.sh node       only those in Node, which include the mixed story too
#   tests/clients/run.sh python     only those in Python
#   tests/clients/run.sh rust       only that in Rust
#
# CHAT_SERVER_BIN names the server under test; unset, it is that of `cargo build`.
# Needs Node 20.10, Python 3.11, redis-server, or newer ones, and for Rust OpenSSL's headers; what is missing fails the run.
set -eu
cd "$(dirname "$0")"
here=$(pwd)
. ../../scripts/common.sh

case ${1:-all} in
    all) suites="node python rust" ;;
    node | python | rust) suites=$1 ;;
    *) fail "there is no suite $1: say node, python or rust, or nothing for all" ;;
esac

have redis-server || fail "redis-server is missing"
have node || fail "Node is missing; install Node 20.10 or newer (https://nodejs.org)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 10) ? 0 : 1)' ||
    fail "Node $(node --version) is too old: 20.10 or newer is needed"
have npm || fail "npm is missing; it comes with Node, or as the package npm"
have python3 || fail "Python is missing: 3.11 or newer is needed"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$(python3 --version) is too old: 3.11 or newer is needed"

# Installs a folder's pinned packages again where the list of them has changed.
#   fresh LIST STAMP
fresh() {
    cmp -s "$1" "$2"
}

if ! fresh node/package-lock.json node/node_modules/.installed; then
    say "installing the Node packages of tests/clients/node"
    (cd node && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
    cp node/package-lock.json node/node_modules/.installed
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
venv=$here/python/.venv
# The interpreter is part of the stamp: packages are installed for one.
{
    cat python/requirements.txt
    python3 -c 'import sys; print(sys.executable, sys.version)'
} >python/.wanted
if ! fresh python/.wanted "$venv/.installed"; then
    say "installing the Python packages of tests/clients/python"
    rm -rf "$venv"
    # Debian has venv in a package of its own. Without it pip does, and without pip that package.
    if ! python3 -c 'import ensurepip' 2>/dev/null && ! python3 -m pip --version >/dev/null 2>&1; then
        ensure_package "Python's venv" python3-venv
    fi
    if python3 -c 'import ensurepip' 2>/dev/null; then
        python3 -m venv "$venv"
        "$venv/bin/python" -m pip install --quiet -r python/requirements.txt >&2
    else
        python3 -m pip install --quiet --target "$venv/packages" -r python/requirements.txt >&2
        mkdir -p "$venv/bin"
        cat >"$venv/bin/python" <<END
#!/bin/sh
PYTHONPATH="$venv/packages" exec "$(command -v python3)" "\$@"
END
        chmod +x "$venv/bin/python"
    fi
    mv python/.wanted "$venv/.installed"
else
    rm python/.wanted
fi
export CHAT_CLIENTS_PYTHON="$venv/bin/python"

target=$(cd ../.. && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
if [ -z "${CHAT_SERVER_BIN:-}" ]; then
    CHAT_SERVER_BIN=$target/debug/chat-server
    if ! [ -x "$CHAT_SERVER_BIN" ]; then
        say "building the server"
        (cd ../.. && cargo build)
    fi
fi
[ -x "$CHAT_SERVER_BIN" ] || fail "there is no program $CHAT_SERVER_BIN"
export CHAT_SERVER_BIN

say "the server under test: $CHAT_SERVER_BIN"
failed=
for suite in $suites; do
    case $suite in
        node)
            say "socket.io-client $(node -p 'require("./node/node_modules/socket.io-client/package.json").version'), Node $(node --version)"
            (cd node && node --test --test-reporter=spec --test-concurrency=2 test/*.test.mjs) ||
                failed="$failed node"
            ;;
        python)
            say "python-socketio, $(python3 --version)"
            # The warnings come from the libraries and concern their own sockets.
            (cd python && "$CHAT_CLIENTS_PYTHON" -B -W ignore -m unittest -v test_main_path) ||
                failed="$failed python"
            ;;
        rust)
            # rust_socketio needs OpenSSL for TLS, even though it speaks none here.
            have pkg-config || ensure_package pkg-config pkg-config
            pkg-config --exists openssl || ensure_package "OpenSSL's headers" libssl-dev
            say "rust_socketio; the first time it is built, which takes a minute or two"
            (cd rust && CARGO_TARGET_DIR="$target/rust-client" cargo run --quiet --locked) ||
                failed="$failed rust"
            ;;
    esac
done
[ -z "$failed" ] || fail "failed:$failed"
say "all client suites passed:" $suites
