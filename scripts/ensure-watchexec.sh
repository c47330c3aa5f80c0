#!/bin/sh
# Makes sure that watchexec, which restarts the server after a change, is installed.
set -eu
cd "$(dirname "$0")"
. ./common.sh

if have watchexec; then
    exit 0
fi
if have brew; then
    ensure_package watchexec watchexec
    exit 0
fi
say "watchexec is missing: building it with cargo install (once, some minutes)"
cargo install --locked watchexec-cli --version '^2'
