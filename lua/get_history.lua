#!lua flags=no-writes
-- get_history: one page of a room's messages. Marks nothing as read.
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
-- ARGV[1] user       string   who asks
-- ARGV[2] before     string   only messages before this id, '' for none
-- ARGV[3] after      string   only messages after this id, '' for none
-- ARGV[4] limit      integer  messages in the page, at most
-- ARGV[5] max_bytes  integer  bytes of the page as JSON, at most (one message is always given)
-- Returns   {epoch, rev, seq, last_id, small 0|1, has_more 0|1, {{id, sender, content, client_id, read_count, type, parts}…}, {user, read seq…}}
-- Publishes nothing
-- Errors    NOT_MEMBER | MESSAGE_NOT_FOUND | HISTORY_RESET
-- Time      O(limit); the read markers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/get_history.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , alice '' '' 50 262144

-- Up to this many members, markers are listed by name.
local SMALL_ROOM = 100
-- Messages read at a time, at most: the first alone, then more, so that not much is read in vain.
local STEP_MAX = 8
-- Bytes of a message as JSON, besides what was written and who has read it.
local MESSAGE_BYTES = 256

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local user, before, after = ARGV[1], ARGV[2], ARGV[3]
local limit, max_bytes = tonumber(ARGV[4]), tonumber(ARGV[5])

local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] or redis.call('HEXISTS', members, user) == 0 then
  return redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')
end
local small = redis.call('HLEN', members) <= SMALL_ROOM

local cursor = before ~= '' and before or after
if cursor ~= '' and #redis.call('XRANGE', messages, cursor, cursor, 'COUNT', 1) == 0 then
  -- The cursor is trimmed, the start ("0-0"), or of another history.
  local oldest = redis.call('XRANGE', messages, '-', '+', 'COUNT', 1)[1]
  local first_ms, first_seq = head[4]:match('^(%d+)-'), head[2] + 1
  if oldest then
    first_ms, first_seq = oldest[1]:match('^(%d+)-(%d+)$')
  end
  local ms, seq = cursor:match('^(%d+)-(%d+)$')
  local older = tonumber(seq) < tonumber(first_seq) and (tonumber(ms) <= tonumber(first_ms))
  if before ~= '' and not older then
    return redis.error_reply('MESSAGE_NOT_FOUND There is no such message in this chat.')
  end
  -- After a hole the page would not continue where the reader's own history ends.
  if after ~= '' and not (older and tonumber(seq) + 1 == tonumber(first_seq)) then
    return redis.error_reply('HISTORY_RESET This is no longer the history of this chat: load it again.')
  end
end

-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.

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

-- Returns the next messages of the page, further and further away from the cursor.
local function next_entries(count)
  if after ~= '' then
    return redis.call('XRANGE', messages, '(' .. cursor, '+', 'COUNT', count)
  end
  if cursor == '0-0' then
    -- Redis refuses '(0-0' as the end of a range.
    return {}
  end
  local last = cursor ~= '' and '(' .. cursor or '+'
  return redis.call('XREVRANGE', messages, last, '-', 'COUNT', count)
end

local marks = small and redis.call('ZRANGE', reads, 0, -1, 'WITHSCORES') or {}
local message_bytes = MESSAGE_BYTES + #cjson.encode(marks)
local found, bytes, has_more, step = {}, 0, 0, 1
repeat
  local entries = next_entries(step)
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
    table.insert(found, after ~= '' and #found + 1 or 1, read)
    cursor = entry[1]
  end
  local was_last = #entries < step
  step = math.min(2 * step, STEP_MAX)
until was_last or has_more == 1
return {head[1], tonumber(head[3]), tonumber(head[2]), head[4], small and 1 or 0, has_more, found, marks}
