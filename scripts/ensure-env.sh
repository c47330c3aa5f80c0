#!/bin/sh
# Makes sure that .env.dev exists, with a secret that nobody else has. With the secret of the example, which everybody
# knows, any program and any page that reaches the server could sign in as anyone.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

example=$(sed -n 's/^JWT_SECRET=//p' .env.example)
example_line="^[[:space:]]*(export[[:space:]]+)?JWT_SECRET=[\"']?$example[\"']?[[:space:]]*\$"

# with_own_secret FILE: prints the file with a random secret in place of the example's.
with_own_secret() {
    secret=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
    [ ${#secret} -eq 64 ] || fail "cannot read 32 random bytes from /dev/urandom"
    sed -E "s/$example_line/JWT_SECRET=$secret/" "$1"
}

if [ ! -e .env.dev ]; then
    say "making .env.dev from .env.example, with a random JWT_SECRET"
    source=.env.example
elif grep -Eq "$example_line" .env.dev; then
    say "replacing the example's JWT_SECRET in .env.dev with a random one; tokens signed with the old one are no longer accepted"
    source=.env.dev
else
    exit 0
fi
# Only the owner may read the file, and it is replaced as a whole or not at all.
umask 077
with_own_secret "$source" >.env.dev.new
mv .env.dev.new .env.dev
