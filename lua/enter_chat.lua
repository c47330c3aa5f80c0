#!lua
-- enter_chat: a device begins to view a room; all of it is read; the latest messages come back.
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
-- KEYS[10] viewers  hash     chat:{room:R}:viewers
-- ARGV[1] user       string   who enters
-- ARGV[2] device     string   the connection that views the room, without a colon
-- ARGV[3] lease_ms   integer  how long the device counts as a viewer unless renewed
-- ARGV[4] limit      integer  messages in the page, at most
-- ARGV[5] max_bytes  integer  bytes of content in the page, at most (one message is always given)
-- Returns   {epoch, rev before, rev after, seq, last_id, small 0|1, has_more 0|1, {{id, sender, content, client_id, read_count}…}, {user, read seq…}}
-- Publishes events {"event":"read","epoch","rev","seq","lastId","user","readSeq","messageId","to":"members"|"user"} if the marker moved
-- Errors    NOT_MEMBER
-- Time      O(limit + CLEARED_AT_ONCE + log viewers); the read markers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/enter_chat.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' 'chat:{room:1}:viewers' , bob bobs-phone 15000 50 262144

-- Up to this many members, markers are listed by name and told to all members.
local SMALL_ROOM = 100
-- VIEWER_LEASE_MS is at most this. A lease that ends later was made when Redis's clock was ahead, and counts as over.
local LEASE_MAX_MS = 600000
-- Leases that are over are cleared by those who enter, so many at a time: a dead server may have left thousands.
local CLEARED_AT_ONCE = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
-- Where servers of version 0.1.0 kept who views the room: deleted here, read nowhere.
local viewers = KEYS[10]
local user, device, lease_ms = ARGV[1], ARGV[2], tonumber(ARGV[3])
local limit, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] or redis.call('HEXISTS', members, user) == 0 then
  return redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')
end
local epoch, seq, rev, last_id = head[1], tonumber(head[2]), tonumber(head[3]), head[4]
local small = redis.call('HLEN', members) <= SMALL_ROOM
local marker = tonumber(redis.call('ZSCORE', reads, user) or 0)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local entries = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', limit + 1)

local ended = redis.call('ZCOUNT', viewing, '-inf', string.format('%.0f', now_ms))
local too_far = redis.call('ZCOUNT', viewing, string.format('(%.0f', now_ms + LEASE_MAX_MS), '+inf')

redis.call('UNLINK', viewers)
if ended > 0 then
  redis.call('ZREMRANGEBYRANK', viewing, 0, math.min(ended, CLEARED_AT_ONCE) - 1)
end
if too_far > 0 then
  redis.call('ZREMRANGEBYRANK', viewing, -math.min(too_far, CLEARED_AT_ONCE), -1)
end
redis.call('ZADD', viewing, string.format('%.0f', now_ms + lease_ms), device .. ':' .. user)

local rev_after = rev
if marker < seq then
  rev_after = rev + 1
  redis.call('ZADD', reads, 'GT', seq, user)
  redis.call('HSET', meta, 'rev', rev_after)
  redis.call('SPUBLISH', events, cjson.encode({
    event = 'read', epoch = epoch, rev = rev_after, seq = seq, lastId = last_id,
    user = user, readSeq = seq, messageId = last_id, to = small and 'members' or 'user',
  }))
end

local count, bytes = 0, 0
for i = 1, math.min(#entries, limit) do
  bytes = bytes + #entries[i][2][4]
  if i > 1 and bytes > max_bytes then break end
  count = i
end
local found = {}
for i = count, 1, -1 do
  local id, fields = entries[i][1], entries[i][2]
  local readers = small and 0 or redis.call('ZCOUNT', reads, id:match('-(%d+)$'), '+inf')
  found[#found + 1] = {id, fields[2], fields[4], fields[6] or '', readers}
end
local marks = small and redis.call('ZRANGE', reads, 0, -1, 'WITHSCORES') or {}
return {epoch, rev, rev_after, seq, last_id, small and 1 or 0, #entries > count and 1 or 0, found, marks}
