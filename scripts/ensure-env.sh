#!/bin/sh
# Makes .env.dev from .env.example where there is none.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

if [ ! -e .env.dev ]; then
    say "making .env.dev from .env.example"
    # Secrets come to stand in it.
    (umask 077 && cp .env.example .env.dev)
fi
