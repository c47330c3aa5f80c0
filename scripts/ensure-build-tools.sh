#!/bin/sh
# Makes sure that Rust and a C compiler (for linking, and for the cryptography) are installed.
set -eu
cd "$(dirname "$0")"
. ./common.sh

have cargo || fail "Rust is missing; install it from https://rustup.rs and try again"
if ! have cc; then
    case $(package_manager) in
        apt-get) package=build-essential ;;
        apk) package=build-base ;;
        *) package=gcc ;;
    esac
    ensure_package "a C compiler" "$package"
fi
