#!lua
-- renew_viewers: devices of one server go on viewing a room. Servers call it every third of a lease.
--
-- KEYS[1] meta      hash     chat:{room:R}:meta
-- KEYS[2] members   hash     chat:{room:R}:members
-- KEYS[3] reads     zset     chat:{room:R}:reads
-- KEYS[4] messages  stream   chat:{room:R}:messages
-- KEYS[5] viewers   hash     chat:{room:R}:viewers
-- KEYS[6] ext       hash     chat:{room:R}:ext
-- KEYS[7] sent      string   chat:{room:R}:sent:<user>:<clientMessageId>
-- KEYS[8] events    channel  chat:{room:R}:events
-- ARGV[1] lease_ms  integer  how long a device counts as a viewer from now
-- ARGV[2…] for each connection that views the room:
--   device  string  the connection
--   user    string  whose it is
-- Returns   {renewed}
-- Publishes events {"event":"read",…} as enter_chat does, in rooms of more than SMALL_ROOM members
-- Errors    none (a device whose user is no member is passed over)
-- Time      O(devices given)
-- Try       redis-cli --eval lua/renew_viewers.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewers' 'chat:{room:1}:ext' 'chat:{room:1}:sent:alice:' 'chat:{room:1}:events' , 15000 bobs-phone bob

-- Above this many members a send moves no viewer's marker, so the renewal does.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewers, ext, sent, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local lease_ms = tonumber(ARGV[1])

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] then
  return {0}
end
local seq, rev, last_id = tonumber(head[2]), tonumber(head[3]), head[4]
local large = redis.call('HLEN', members) > SMALL_ROOM
local time = redis.call('TIME')
local lease_end_ms = time[1] * 1000 + math.floor(time[2] / 1000) + lease_ms
redis.call('HLEN', viewers)
redis.call('ZCARD', reads)

local renewed = 0
for i = 2, #ARGV, 2 do
  local device, user = ARGV[i], ARGV[i + 1]
  if redis.call('HEXISTS', members, user) == 1 then
    renewed = renewed + 1
    redis.call('HSET', viewers, device, string.format('%.0f:%s', lease_end_ms, user))
    if large and seq > 0 and redis.call('ZADD', reads, 'GT', 'CH', seq, user) == 1 then
      rev = rev + 1
      redis.call('HSET', meta, 'rev', rev)
      redis.call('SPUBLISH', events, cjson.encode({
        event = 'read', epoch = head[1], rev = rev, seq = seq, lastId = last_id,
        user = user, readSeq = seq, messageId = last_id, to = 'user',
      }))
    end
  end
end
return {renewed}
