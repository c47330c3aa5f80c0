#!/bin/sh
# Makes sure that rustfmt, clippy, luacheck, nginx and Chromium are installed.
set -eu
cd "$(dirname "$0")"
. ./common.sh

# ensure_component SUBCOMMAND COMPONENT
ensure_component() {
    if cargo "$1" --version >/dev/null 2>&1; then
        return
    fi
    have rustup || fail "cargo $1 is missing; install $2 from where your Rust comes from"
    say "cargo $1 is missing: installing the Rust component $2"
    rustup component add "$2" >&2
}

ensure_component fmt rustfmt
ensure_component clippy clippy
if ! have luacheck; then
    case $(package_manager) in
        apt-get) package=lua-check ;;
        *) package=luacheck ;;
    esac
    ensure_package luacheck "$package"
fi
# Debian installs nginx in /usr/sbin, which is not in everybody's PATH.
have nginx || [ -x /usr/sbin/nginx ] || ensure_package nginx nginx-core
have chromium || have chromium-browser || have google-chrome || ensure_package Chromium chromium
