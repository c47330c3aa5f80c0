#!/bin/sh
# Plants each fault of tests/planted in a copy of the tree, and requires that the hub's property tests find it.
set -eu
cd "$(dirname "$0")/.."
. scripts/common.sh

# The copy needs a target folder of its own, because cargo takes it for the same package.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}/planted"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z | tar --null --files-from - -cf - | tar -xf - -C "$copy"

property_holds() {
    (cd "$copy" && cargo test --lib hub::property) >"$copy/log" 2>&1
}

say "no fault"
property_holds || fail "the property does not hold: cargo test --lib hub::property"
for fault in tests/planted/*.diff; do
    say "$(basename "$fault" .diff)"
    patch --quiet --directory "$copy" --strip 1 <"$fault" || fail "$fault does not apply any more"
    (cd "$copy" && cargo test --lib --no-run) >"$copy/log" 2>&1 || fail "the tree does not build with $fault"
    ! property_holds || fail "$fault was not found"
    sed -n 's/^test \(hub.*\) \.\.\. FAILED$/    found by \1/p' "$copy/log"
    patch --quiet --directory "$copy" --strip 1 --reverse <"$fault"
done
