#!lua
-- send_message: append one message to a room and publish it to everyone connected.
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
-- KEYS[10] sent_before  string  chat:{room:R}:sent:<user>:<clientMessageId>
-- ARGV[1] user               string   the sender
-- ARGV[2] content            string   the text, UTF-8; several strings are joined by line ends
-- ARGV[3] client_id          string   the sender's own id of this message, '' for none
-- ARGV[4] digest             string   stands for user and client_id together, 16 bytes; '' for none
-- ARGV[5] history_max        integer  messages to keep, at least; 0 keeps all
-- ARGV[6] dedupe_ttl_ms      integer  how long a client_id is remembered, at least; at most twice as long
-- ARGV[7] content_max_bytes  integer  bytes of content, at most
-- ARGV[8] room_max_bytes     integer  bytes that a room keeps, about, at most: the oldest messages go; 0 keeps all
-- ARGV[9] call               string   names this call: a server that makes it again gets the first result, no duplicate
-- ARGV[10] kind              string   the message's type, 'text' for most
-- ARGV[11] parts             string   the bytes of each string of a content that was sent as several: '5,12'; '' for one
-- Returns   {id, seq, duplicate 0|1}
-- Publishes events {"event":"message","epoch","rev","seq","id","sender","content","type"?,"parts"?,"clientMessageId"?,"readBy"?,"readCount"}
-- Errors    MESSAGE_TOO_LARGE | NOT_MEMBER
-- Time      O(VIEWERS_MAX + log viewers) in rooms of at most SMALL_ROOM members, O(1) in larger ones
-- Try       redis-cli --eval lua/send_message.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , alice hello '' '' 0 86400000 16384 0 c1 text ''

-- Up to this many members, those who view the room have read a message at once.
local SMALL_ROOM = 100
-- Viewing devices whose users' markers a send moves, at most: those of the others move when they are renewed.
local VIEWERS_MAX = '500'
-- VIEWER_LEASE_MS is at most this. A lease that ends later was made when Redis's clock was ahead, and counts as over.
local LEASE_MAX_MS = 600000
-- Bytes that a message counts for in room_max_bytes, besides what was written.
local MESSAGE_BYTES = 64
-- Messages that a send removes, at most, where a room has more bytes than it may.
local REMOVED_AT_ONCE = 8

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
-- Where servers of version 0.1.0 remembered this client_id: needed for a dedupe_ttl_ms after the last of them stopped.
-- Without a client_id there is no such key.
local sent_before = KEYS[10]
local user, content, client_id, digest = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local history_max, dedupe_ttl_ms, content_max_bytes = tonumber(ARGV[5]), ARGV[6], tonumber(ARGV[7])
local room_max_bytes, call = tonumber(ARGV[8]), ARGV[9]
local kind, parts = ARGV[10], ARGV[11]

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
-- What is stored already is answered before any rule: its sender must not be told that it was refused.
if head[1] and client_id ~= '' then
  local first = redis.call('HGET', sent_a, digest) or redis.call('HGET', sent_b, digest)
    or redis.call('GET', sent_before)
  if first then
    local first_id, first_call = first:match('^(%S+) (.*)$')
    return {first_id, tonumber(first_id:match('-(%d+)$')), first_call == call and 0 or 1}
  end
end
-- The line ends between several strings do not count.
local content_bytes = parts == '' and #content or #content - select(2, parts:gsub(',', ''))
if content_bytes > content_max_bytes then
  return redis.error_reply('MESSAGE_TOO_LARGE "content" has ' .. content_bytes .. ' bytes; at most '
    .. content_max_bytes .. ' are accepted')
end
if not head[1] or redis.call('HEXISTS', members, user) == 0 then
  return redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.

-- Reading every key that is written below, but for the first, finds one of a wrong type before anything is stored.
redis.call('ZCARD', reads)
local small = redis.call('HLEN', members) <= SMALL_ROOM

local epoch, seq, rev = head[1], head[2] + 1, head[3] + 1
local last_ms = tonumber(head[4]:match('^(%d+)-'))
-- The calls below get text, because Redis writes a number out to 17 digits, which costs more than the call itself.
local seq_text, rev_text = string.format('%d', seq), string.format('%d', rev)
local id = string.format('%d-', math.max(now_ms, last_ms)) .. seq_text

local readers, marks = {user}, {seq_text, user}
if small then
  local seen
  local leases = redis.call('ZRANGE', viewing, '-' .. VIEWERS_MAX, '-1', 'WITHSCORES')
  for i = 1, #leases, 2 do
    seen = seen or {[user] = true}
    local viewer, left_ms = leases[i]:match('^[^:]*:(.*)$'), leases[i + 1] - now_ms
    if viewer and left_ms > 0 and left_ms <= LEASE_MAX_MS and not seen[viewer] then
      seen[viewer] = true
      readers[#readers + 1] = viewer
      marks[#marks + 1], marks[#marks + 2] = seq_text, viewer
    end
  end
end
-- The two hashes take turns of one dedupe_ttl_ms each: one keeps its entries through the other's turn, and no longer.
local sent, expires_ms, until_ms
if client_id ~= '' then
  local turn = math.floor(now_ms / dedupe_ttl_ms)
  sent, until_ms = turn % 2 == 0 and sent_a or sent_b, (turn + 2) * dedupe_ttl_ms - 1
  expires_ms = redis.call('PEXPIRETIME', sent)
end

local entry = {'sender', user, 'content', content}
if client_id ~= '' then
  entry[#entry + 1], entry[#entry + 2] = 'client_id', client_id
end
if kind ~= 'text' then
  entry[#entry + 1], entry[#entry + 2] = 'type', kind
end
if parts ~= '' then
  entry[#entry + 1], entry[#entry + 2] = 'parts', parts
end
-- Each message notes how many bytes came before it: the difference from the oldest one is what the room has. After
-- messages that were stored without a bound, counting starts again.
local bytes, counted_from
if room_max_bytes > 0 then
  local counted = redis.call('HMGET', meta, 'bytes', 'bytes_id', 'bytes_from')
  local goes_on = counted[2] == head[4]
  bytes, counted_from = goes_on and tonumber(counted[1]) or 0, goes_on and tonumber(counted[3]) or seq
  entry[#entry + 1], entry[#entry + 2] = 'offset', string.format('%d', bytes)
  bytes = bytes + #content + #user + #client_id + MESSAGE_BYTES
end

if history_max > 0 then
  redis.call('XADD', messages, 'MAXLEN', '~', history_max, id, unpack(entry))
else
  redis.call('XADD', messages, id, unpack(entry))
end
redis.call('HSET', meta, 'seq', seq_text, 'rev', rev_text, 'last_id', id)
redis.call('ZADD', reads, 'GT', unpack(marks))
if now_ms < last_ms then
  -- The clock was ahead when the last message was sent. Lists are ordered by when messages were sent.
  redis.call('HSET', meta, 'sent_at', string.format('%d', now_ms))
end
if client_id ~= '' then
  redis.call('HSET', sent, digest, id .. ' ' .. call)
  -- New, or dated by another clock or setting.
  if expires_ms ~= until_ms then
    redis.call('PEXPIREAT', sent, string.format('%d', until_ms))
  end
end
if bytes then
  redis.call('HSET', meta, 'bytes', string.format('%d', bytes), 'bytes_id', id, 'bytes_from', counted_from)
  for _ = 1, REMOVED_AT_ONCE do
    local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
    -- Messages that were stored before counting began are removed before all counted ones.
    local offset = 0
    for i = 1, #oldest[2], 2 do
      if oldest[2][i] == 'offset' and tonumber(oldest[1]:match('-(%d+)$')) >= counted_from then
        offset = tonumber(oldest[2][i + 1]) or 0
      end
    end
    if bytes - offset <= room_max_bytes or oldest[1] == id then break end
    redis.call('XDEL', messages, oldest[1])
  end
end

-- This is one expression, because having cjson encode a table, or appending part by part, would cost more.
local event = '{"event":"message","epoch":"' .. epoch .. '","rev":' .. rev_text .. ',"seq":' .. seq_text
  .. ',"id":"' .. id .. '","sender":' .. cjson.encode(user) .. ',"content":' .. cjson.encode(content)
  .. (kind ~= 'text' and ',"type":' .. cjson.encode(kind) or '') .. (parts ~= '' and ',"parts":"' .. parts .. '"' or '')
  .. (client_id ~= '' and ',"clientMessageId":' .. cjson.encode(client_id) or '')
  .. (small and ',"readBy":' .. cjson.encode(readers) or '') .. ',"readCount":' .. #readers .. '}'
redis.call('SPUBLISH', events, event)
return {id, seq, 0}
