#!lua
-- renew_viewers: devices of one server go on viewing a room. Servers call it every third of a lease.
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
-- ARGV[1] lease_ms  integer  how long a device counts as a viewer from now
-- ARGV[2…] for each connection that views the room, at most 128:
--   device  string  the connection, without a colon
--   user    string  whose it is
-- Returns   {renewed}
-- Publishes events {"event":"read",…} as enter_chat does, for each marker that moved
-- Errors    none (a device whose user is no member is passed over)
-- Time      O(devices given * log viewers)
-- Try       redis-cli --eval lua/renew_viewers.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , 15000 bobs-phone bob

-- Up to this many members, a moved marker is sent to all of them; above, to the user's own devices.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local lease_ms = tonumber(ARGV[1])

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] then
  return {0}
end
local seq, rev, last_id = tonumber(head[2]), tonumber(head[3]), head[4]
local small = redis.call('HLEN', members) <= SMALL_ROOM
local time = redis.call('TIME')
local lease_end_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms)
redis.call('ZCARD', viewing)
redis.call('ZCARD', reads)

local renewed = 0
for i = 2, #ARGV, 2 do
  local device, user = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', members, user) == 1 then
    renewed = renewed + 1
    redis.call('ZADD', viewing, lease_end_ms, device .. ':' .. user)
    -- A send does not mark the viewers of a large room, nor those beyond its VIEWERS_MAX in a small one.
    if seq > 0 and redis.call('ZADD', reads, 'GT', 'CH', seq, user) == 1 then
      rev = rev + 1
      redis.call('HSET', meta, 'rev', rev)
      redis.call('SPUBLISH', events, cjson.encode({
        event = 'read', epoch = head[1], rev = rev, seq = seq, lastId = last_id,
        user = user, readSeq = seq, messageId = last_id, to = small and 'members' or 'user',
      }))
    end
  end
end
return {renewed}
