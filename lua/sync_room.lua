#!lua flags=no-writes
-- sync_room: what a server missed of a room since the last event it delivered. Called by servers, after a gap.
--
-- KEYS[1] meta      hash     chat:{room:R}:meta
-- KEYS[2] members   hash     chat:{room:R}:members
-- KEYS[3] reads     zset     chat:{room:R}:reads
-- KEYS[4] messages  stream   chat:{room:R}:messages
-- KEYS[5] viewing   zset     chat:{room:R}:viewing
-- KEYS[6] ext       hash     chat:{room:R}:ext
-- KEYS[7] sent_a    hash     chat:{room:R}:sent:a
-- KEYS[8] sent_b    hash     chat:{room:R}:sent:b
-- KEYS[9] events    channel  chat:{room:R}:events
-- ARGV[1] epoch      string   of the last event delivered
-- ARGV[2] rev        integer  of the last event delivered
-- ARGV[3] last_id    string   of the last message delivered, '0-0' for none
-- ARGV[4] limit      integer  messages in the page, at most
-- ARGV[5] max_bytes  integer  bytes of content in the page, at most (one message is always given)
-- Returns   {} if there is no such room, else {epoch, rev, seq, last_id, small 0|1, has_more 0|1, {{id, sender, content, client_id, read_count}…}, {user, read seq…}, reset 0|1}; with reset 1 both lists are empty
-- Publishes nothing
-- Errors    none
-- Time      O(limit); the read markers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/sync_room.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , "$(redis-cli hget 'chat:{room:1}:meta' epoch)" 1 0-0 100 262144

-- Up to this many members, markers are listed by name.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local epoch, rev, last_id = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local limit, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] then
  return {}
end
local small = redis.call('HLEN', members) <= SMALL_ROOM

-- The history that was delivered must be the beginning of the history that is stored.
local reset = head[1] ~= epoch or tonumber(head[3]) < rev
if not reset and #redis.call('XRANGE', messages, last_id, last_id, 'COUNT', 1) == 0 then
  local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
  local first_seq = oldest and oldest[1]:match('-(%d+)$') or head[2] + 1
  reset = tonumber(last_id:match('-(%d+)$')) + 1 ~= tonumber(first_seq)
end
if reset then
  return {head[1], tonumber(head[3]), tonumber(head[2]), head[4], small and 1 or 0, 0, {}, {}, 1}
end

local entries = redis.call('XRANGE', messages, '(' .. last_id, '+', 'COUNT', limit + 1)
local count, bytes = 0, 0
for i = 1, math.min(#entries, limit) do
  bytes = bytes + #entries[i][2][4]
  if i > 1 and bytes > max_bytes then break end
  count = i
end
local found = {}
for i = 1, count do
  local id, fields = entries[i][1], entries[i][2]
  local readers = small and 0 or redis.call('ZCOUNT', reads, id:match('-(%d+)$'), '+inf')
  found[i] = {id, fields[2], fields[4], fields[6] or '', readers}
end
local marks = small and redis.call('ZRANGE', reads, 0, -1, 'WITHSCORES') or {}
return {
  head[1], tonumber(head[3]), tonumber(head[2]), head[4],
  small and 1 or 0, #entries > count and 1 or 0, found, marks, 0,
}
