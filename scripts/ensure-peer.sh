#!/bin/sh
# Installs the pinned packages of the relay with which `make bench` compares the server, if Node is installed. Without
# Node the comparison is left out.
set -eu
cd "$(dirname "$0")"
. ./common.sh
cd ../benches/peer

if ! have node || ! have npm; then
    say "Node is missing, so the relay is not measured"
    exit 0
fi
if ! cmp -s package-lock.json node_modules/.installed; then
    say "installing the Node packages of benches/peer"
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2
    cp package-lock.json node_modules/.installed
fi
