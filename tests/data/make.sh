#!/bin/sh
# Makes the data that a version of the server leaves behind: tests/data/make.sh PROGRAM FILE
# PROGRAM is that version's chat-server, FILE the RDB to write. README.md, beside this file, says what it contains.
set -eu
program=$1 file=$2

dir=$(mktemp -d)
redis-server --port 0 --unixsocket "$dir/redis.sock" --dir "$dir" --dbfilename made.rdb --save "" \
  --daemonize yes --logfile "$dir/redis.log" >"$dir/start.log"
redis() { redis-cli -e -s "$dir/redis.sock" "$@"; }
trap 'redis shutdown nosave; rm -r "$dir"' EXIT
until redis ping >"$dir/ping.log" 2>&1; do sleep 0.1; done

export REDIS_URL="unix://$dir/redis.sock" APP_ENV=dev RUST_LOG=error
scripts() { "$program" scripts "$@"; }
run() { scripts run --yes "$@"; }
id() { sed -n 's/^ *"id": "\(.*\)",*$/\1/p'; }

# Two people: three messages, two of them with client ids, which are the same. Bob has read the first.
direct=5b534b82-d924-5ce9-a884-b847bb4d73be
run initialize_chat --user alice --with bob
first=$(run send_message --room $direct --user alice --content 'Hello Bob' --client-id m-1 | id)
run mark_as_read --room $direct --user bob --message "$first"
run send_message --room $direct --user bob --content 'Hello Alice' --client-id m-1
run send_message --room $direct --user alice --content 'How are you? 🦀'
redis hset "chat:{room:$direct}:ext" color blue

# A group with a member and a client id that need encoding. Carol's phone views it.
group=00000000-0000-4000-8000-000000000001
run initialize_chat --room $group --user alice --with 'auth0|66f1' --with carol --name 'Book club'
run send_message --room $group --user 'auth0|66f1' --content 'Which book?' --client-id 'm:1/{x}'
run enter_chat --room $group --user carol --device 0123456789abcdef0123456789abcdef
run send_message --room $group --user alice --content 'Middlemarch.'

# A group of 101, whose members are counted and not listed, and one without messages.
crowd=$(seq -f '--with user-%03g' 2 101)
# shellcheck disable=SC2086 # Words to be split.
run initialize_chat --room 00000000-0000-4000-8000-000000000002 --user alice $crowd --name 'All hands'
run send_message --room 00000000-0000-4000-8000-000000000002 --user alice --content 'Welcome, all'
run initialize_chat --room 00000000-0000-4000-8000-000000000003 --user bob --with alice --with carol

# Rules of the operator's own, in effect for the messages sent last.
scripts export "$dir/rules"
sed -i "s/^local entry = {/content = content:gsub('casino', '***')\n&/" "$dir/rules/send_message.lua"
scripts apply "$dir/rules" --note 'no casinos' --by dora
run send_message --room $direct --user bob --content 'Off to the casino' --client-id m-2

# What expires does so in the year 2100, not a day after it was made.
redis --scan --pattern 'chat:*' | while read -r key; do
  test "$(redis pttl "$key")" = -1 || redis pexpireat "$key" 4102444800000
done
redis save
cp "$dir/made.rdb" "$file"
