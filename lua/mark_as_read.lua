#!lua
-- mark_as_read: move a member's read marker up to a message, never back.
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
-- ARGV[1] user        string  whose marker
-- ARGV[2] message_id  string  the message read up to, 'ms-seq'
-- Returns   {epoch, rev, seq, last_id, read seq, moved 0|1}
-- Publishes events {"event":"read","epoch","rev","seq","lastId","user","readSeq","messageId","to":"members"|"user"} if it moved
-- Errors    NOT_MEMBER | MESSAGE_NOT_FOUND
-- Time      O(log messages)
-- Try       redis-cli --eval lua/mark_as_read.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , bob "$(redis-cli hget 'chat:{room:1}:meta' last_id)"

-- Up to this many members, a moved marker is sent to all of them; above, to the user's own devices.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local user, message_id = ARGV[1], ARGV[2]

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] or redis.call('HEXISTS', members, user) == 0 then
  return redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')
end
local epoch, seq, rev = head[1], tonumber(head[2]), tonumber(head[3])
local ms, read_seq = message_id:match('^(%d+)-(%d+)$')
ms, read_seq = tonumber(ms), tonumber(read_seq)
if #redis.call('XRANGE', messages, message_id, message_id, 'COUNT', 1) == 0 then
  -- A message that was trimmed is still a message: its id gives its number.
  local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
  local first_ms, first_seq = 0, 0
  if oldest then
    first_ms, first_seq = oldest[1]:match('^(%d+)-(%d+)$')
  end
  if read_seq < 1 or ms > tonumber(first_ms) or read_seq >= tonumber(first_seq) then
    return redis.error_reply('MESSAGE_NOT_FOUND There is no such message in this chat.')
  end
end

-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.

local small = redis.call('HLEN', members) <= SMALL_ROOM
local marker = tonumber(redis.call('ZSCORE', reads, user) or 0)
if read_seq <= marker then
  return {epoch, rev, seq, head[4], marker, 0}
end
rev = rev + 1
redis.call('ZADD', reads, 'GT', read_seq, user)
redis.call('HSET', meta, 'rev', rev)
redis.call('SPUBLISH', events, cjson.encode({
  event = 'read', epoch = epoch, rev = rev, seq = seq, lastId = head[4],
  user = user, readSeq = read_seq, messageId = message_id, to = small and 'members' or 'user',
}))
return {epoch, rev, seq, head[4], read_seq, 1}
