#!/bin/sh
# Tests the page in real Chromium, and its client in Node, each against a real server and Redis.
#
#   tests/web/run.sh                 all tests; their pictures are left in tests/web/pictures
#   tests/web/run.sh FILE...         only these, such as test/chat.test.mjs
#   tests/web/run.sh --screenshots   makes the pictures of docs/screenshots again
#
# CHAT_SERVER_BIN names the server under test; unset, it is that of `cargo build`. CHROMIUM names the browser.
# Needs Node 20.10, Chromium and redis-server, or newer ones; what is missing fails the run.
set -eu
cd "$(dirname "$0")"
. ../../scripts/common.sh

have redis-server || fail "redis-server is missing"
have node || fail "Node is missing; install Node 20.10 or newer (https://nodejs.org)"
node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 10) ? 0 : 1)' ||
    fail "Node $(node --version) is too old: 20.10 or newer is needed"
have npm || fail "npm is missing; it comes with Node, or as the package npm"
if [ -z "${CHROMIUM:-}" ]; then
    for name in chromium chromium-browser google-chrome; do
        if have "$name"; then
            CHROMIUM=$(command -v "$name")
            break
        fi
    done
fi
[ -x "${CHROMIUM:-}" ] || fail "Chromium is missing: scripts/ensure-test-tools.sh installs it"
export CHROMIUM

# Installs the pinned packages again where the list of them has changed.
if ! cmp -s package-lock.json node_modules/.installed; then
    say "installing the Node packages of tests/web"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json node_modules/.installed
fi

if [ -z "${CHAT_SERVER_BIN:-}" ]; then
    target=$(cd ../.. && mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
    CHAT_SERVER_BIN=$target/debug/chat-server
    say "building the server"
    (cd ../.. && cargo build)
fi
[ -x "$CHAT_SERVER_BIN" ] || fail "there is no program $CHAT_SERVER_BIN"
export CHAT_SERVER_BIN

# Node has had a WebSocket like that of browsers since version 20, behind a flag until 22.
export NODE_OPTIONS="${NODE_OPTIONS:-} --experimental-websocket --disable-warning=ExperimentalWarning"

say "the server under test: $CHAT_SERVER_BIN"
say "$("$CHROMIUM" --version 2>/dev/null), Node $(node --version)"
if [ "${1:-}" = --screenshots ]; then
    node screenshots.mjs
    say "made anew: docs/screenshots"
    exit
fi
[ $# -gt 0 ] || set -- test/*.test.mjs
node --test --test-reporter=spec --test-concurrency=2 "$@" || fail "failed: the tests of the page"
say "all tests of the page passed"
