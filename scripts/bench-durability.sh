#!/bin/sh
# What each DURABILITY costs: the same load on a server with memory, fsync and replicas:1, one after the other.
# Needs the release builds of chat-server and chat-bench. SECS is how long each is measured (default 8).
set -eu
cd "$(dirname "$0")/.."
secs=${SECS:-8}
release=${CARGO_TARGET_DIR:-target}/release
folder=$(mktemp -d)
started=
# These hold process ids, separated by spaces.
# shellcheck disable=SC2086
trap 'kill $started 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

redis() {
  name=$1
  shift
  mkdir "$folder/$name"
  redis-server --port 0 --unixsocket "$folder/$name/redis.sock" --dir "$folder/$name" --save '' --loglevel warning "$@" \
    >"$folder/$name/log" 2>&1 &
  started="$started $!"
  until redis-cli -s "$folder/$name/redis.sock" ping >/dev/null 2>&1; do sleep 0.1; done
}

measure() {
  durability=$1
  socket=$2
  log="$folder/server-$(echo "$durability" | tr -d ':')"
  APP_ENV=dev PORT=0 JWT_SECRET=bench MAX_REQUESTS_PER_SEC=0 DURABILITY=$durability REDIS_URL="unix://$socket" \
    "$release/chat-server" 2>"$log" &
  server=$!
  started="$started $server"
  until address=$(sed -n 's/.*listening on \([0-9.:]*\),.*/\1/p' "$log") && [ -n "$address" ]; do sleep 0.1; done
  echo "== DURABILITY=$durability"
  "$release/chat-bench" --address "$address" --jwt-secret bench --rooms 50 --members 2 --window 1 --secs "$secs" \
    2>/dev/null
  kill "$server"
  wait "$server" || true
}

redis everysec --appendonly yes --appendfsync everysec
measure memory "$folder/everysec/redis.sock"
redis always --appendonly yes --appendfsync always
measure fsync "$folder/always/redis.sock"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
redis master --appendonly yes --appendfsync everysec --port "$port" --bind 127.0.0.1
redis replica --appendonly yes --appendfsync everysec --replicaof 127.0.0.1 "$port"
until redis-cli -s "$folder/master/redis.sock" info replication | grep -q state=online; do sleep 0.1; done
measure replicas:1 "$folder/master/redis.sock"
