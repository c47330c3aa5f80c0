#!/bin/sh
# Makes sure that redis-server or valkey-server is in PATH.
#
#   --unless-configured   does nothing where the environment or .env.dev names a Redis to use
set -eu
cd "$(dirname "$0")"
. ./common.sh

have_redis() {
    have redis-server || have valkey-server
}

# The package's own service is of no use here: chat-server runs a Redis of its own on a private socket. Nor should a
# Redis that nobody asked for occupy port 6379.
stop_service() {
    [ -d /run/systemd/system ] && have systemctl || return 0
    for unit in redis-server redis valkey-server valkey; do
        if systemctl is-active --quiet "$unit" || systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            say "stopping and disabling the service $unit, which came with the package"
            as_root systemctl disable --now "$unit" >&2 || true
        fi
    done
}

is_configured() {
    [ -n "${REDIS_URL:-}" ] || grep -Eqs '^ *(export +)?REDIS_URL *= *[^ ]' ../.env.dev
}

if have_redis; then
    exit 0
fi
if [ "${1:-}" = --unless-configured ] && is_configured; then
    exit 0
fi
case $(package_manager) in
    apt-get) package=redis-server ;;
    # Newer Fedora, RHEL and Alpine have Valkey instead of Redis.
    dnf) if dnf -q info redis >/dev/null 2>&1; then package=redis; else package=valkey; fi ;;
    apk) if apk search -qe redis 2>/dev/null | grep -q .; then package=redis; else package=valkey; fi ;;
    *) package=redis ;;
esac
ensure_package "a Redis server" "$package"
have_redis || fail "$package is installed, but there is no redis-server or valkey-server in PATH"
stop_service
