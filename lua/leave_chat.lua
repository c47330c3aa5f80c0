#!lua flags=allow-oom
-- leave_chat: a device no longer views a room. It removes its own field only.
--
-- KEYS[1] meta      hash     chat:{room:R}:meta
-- KEYS[2] members   hash     chat:{room:R}:members
-- KEYS[3] reads     zset     chat:{room:R}:reads
-- KEYS[4] messages  stream   chat:{room:R}:messages
-- KEYS[5] viewers   hash     chat:{room:R}:viewers
-- KEYS[6] ext       hash     chat:{room:R}:ext
-- KEYS[7] sent      string   chat:{room:R}:sent:<user>:<clientMessageId>
-- KEYS[8] events    channel  chat:{room:R}:events
-- ARGV[1] user    string  who leaves
-- ARGV[2] device  string  the connection that viewed the room
-- Returns   {left 0|1}
-- Publishes events {"event":"read",…} as enter_chat does, in rooms of more than SMALL_ROOM members
-- Errors    none
-- Time      O(1)
-- Try       redis-cli --eval lua/leave_chat.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewers' 'chat:{room:1}:ext' 'chat:{room:1}:sent:alice:' 'chat:{room:1}:events' , bob bobs-phone

-- Above this many members a send moves no viewer's marker, so leaving does.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewers, ext, sent, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local user, device = ARGV[1], ARGV[2]

local lease = redis.call('HGET', viewers, device)
if not lease then
  return {0}
end
local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
local large = redis.call('HLEN', members) > SMALL_ROOM
local marker = tonumber(redis.call('ZSCORE', reads, user) or 0)
local member = redis.call('HEXISTS', members, user) == 1
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('HDEL', viewers, device)
local viewed_until_now = tonumber(lease:match('^(%d+):') or 0) > now_ms
if head[1] and member and large and viewed_until_now and marker < tonumber(head[2]) then
  local seq, rev = tonumber(head[2]), head[3] + 1
  redis.call('ZADD', reads, 'GT', seq, user)
  redis.call('HSET', meta, 'rev', rev)
  redis.call('SPUBLISH', events, cjson.encode({
    event = 'read', epoch = head[1], rev = rev, seq = seq, lastId = head[4],
    user = user, readSeq = seq, messageId = head[4], to = 'user',
  }))
end
return {1}
