#!lua flags=allow-oom
-- leave_chat: a device no longer views a room. It removes its own lease only.
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
-- ARGV[1] user    string  who leaves
-- ARGV[2] device  string  the connection that viewed the room, without a colon
-- Returns   {left 0|1}
-- Publishes events {"event":"read",…} as enter_chat does, if the marker moved
-- Errors    none
-- Time      O(log viewers)
-- Try       redis-cli --eval lua/leave_chat.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , bob bobs-phone

-- Up to this many members, a moved marker is sent to all of them; above, to the user's own devices.
local SMALL_ROOM = 100
-- VIEWER_LEASE_MS is at most this. A lease that ends later was made when Redis's clock was ahead, and counts as over.
local LEASE_MAX_MS = 600000

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local user, device = ARGV[1], ARGV[2]

local lease = device .. ':' .. user
local lease_end_ms = tonumber(redis.call('ZSCORE', viewing, lease) or 0)
if lease_end_ms == 0 then
  return {0}
end
local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
local small = redis.call('HLEN', members) <= SMALL_ROOM
local marker = tonumber(redis.call('ZSCORE', reads, user) or 0)
local member = redis.call('HEXISTS', members, user) == 1
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZREM', viewing, lease)
local viewed_until_now = lease_end_ms > now_ms and lease_end_ms <= now_ms + LEASE_MAX_MS
-- Messages that arrived meanwhile count as read, even if the sends did not mark them (large rooms, beyond VIEWERS_MAX).
if head[1] and member and viewed_until_now and marker < tonumber(head[2]) then
  local seq, rev = tonumber(head[2]), head[3] + 1
  redis.call('ZADD', reads, 'GT', seq, user)
  redis.call('HSET', meta, 'rev', rev)
  redis.call('SPUBLISH', events, cjson.encode({
    event = 'read', epoch = head[1], rev = rev, seq = seq, lastId = head[4],
    user = user, readSeq = seq, messageId = head[4], to = small and 'members' or 'user',
  }))
end
return {1}
