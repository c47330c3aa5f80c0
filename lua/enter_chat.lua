#!lua
-- enter_chat: a device begins to view a room; all of it counts as read; the latest messages are returned.
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
-- ARGV[5] max_bytes  integer  bytes of the page as JSON, at most (one message is always given)
-- Returns   {epoch, rev before, rev after, seq, last_id, small 0|1, has_more 0|1, {{id, sender, content, client_id, read_count, type, parts}…}, {user, read seq…}}
-- Publishes events {"event":"read","epoch","rev","seq","lastId","user","readSeq","messageId","to":"members"|"user"} if the marker moved
-- Errors    NOT_MEMBER
-- Time      O(limit + CLEARED_AT_ONCE + log viewers); the read markers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/enter_chat.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' 'chat:{room:1}:viewers' , bob bobs-phone 15000 50 262144

-- Up to this many members, markers are listed by name and published to all members.
local SMALL_ROOM = 100
-- VIEWER_LEASE_MS is at most this. A lease that ends later was made when Redis's clock was ahead, and counts as over.
local LEASE_MAX_MS = 600000
-- A device that enters clears this many expired leases at a time: a dead server may have left thousands.
local CLEARED_AT_ONCE = 100
-- Messages read at a time, at most: the first alone, then more, so that not much is read in vain.
local STEP_MAX = 8
-- Bytes of a message as JSON, besides what was written and who has read it.
local MESSAGE_BYTES = 256

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
-- Servers of version 0.1.0 kept the viewers of the room here: it is deleted below, and never read.
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
-- Reading every key that is used below finds one of a wrong type before anything is stored.
redis.call('XLEN', messages)

local ended = redis.call('ZCOUNT', viewing, '-inf', string.format('%.0f', now_ms))
local too_far = redis.call('ZCOUNT', viewing, string.format('(%.0f', now_ms + LEASE_MAX_MS), '+inf')

-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.

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

-- Returns a message by its fields' names, whatever else its entry has; missing fields are false.
local function message(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  return {
    entry[1], fields.sender or false, fields.content or false, fields.client_id or '', 0,
    fields.type or 'text', fields.parts or '',
  }
end

local marks = small and redis.call('ZRANGE', reads, 0, -1, 'WITHSCORES') or {}
local message_bytes = MESSAGE_BYTES + #cjson.encode(marks)
local found, bytes, has_more, before, step = {}, 0, 0, '+', 1
repeat
  local entries = redis.call('XREVRANGE', messages, before, '-', 'COUNT', step)
  for _, entry in ipairs(entries) do
    local read = message(entry)
    bytes = bytes + message_bytes + #cjson.encode(read)
    if #found == limit or #found > 0 and bytes > max_bytes then
      has_more = 1
      break
    end
    if not small then
      read[5] = redis.call('ZCOUNT', reads, entry[1]:match('-(%d+)$'), '+inf')
    end
    table.insert(found, 1, read)
    before = '(' .. entry[1]
  end
  local was_last = #entries < step
  step = math.min(2 * step, STEP_MAX)
until was_last or has_more == 1
return {epoch, rev, rev_after, seq, last_id, small and 1 or 0, has_more, found, marks}
