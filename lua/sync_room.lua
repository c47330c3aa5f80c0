#!lua flags=no-writes
-- sync_room: return what a server missed of a room since the last event it delivered. Servers call it after a gap.
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
-- ARGV[5] max_bytes  integer  bytes of the page as JSON, at most (one message is always given)
-- Returns   {} if there is no such room, else {epoch, rev, seq, last_id, small 0|1, has_more 0|1, {{id, sender, content, client_id, read_count, type, parts}…}, {user, read seq…}, reset 0|1}; with reset 1 both lists are empty
-- Publishes nothing
-- Errors    none
-- Time      O(limit); the read markers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/sync_room.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' , "$(redis-cli hget 'chat:{room:1}:meta' epoch)" 1 0-0 100 262144

-- Up to this many members, markers are listed by name.
local SMALL_ROOM = 100
-- Messages read at a time, at most: the first alone, then more, so that not much is read in vain.
local STEP_MAX = 8
-- Bytes of a message as JSON, besides what was written and who has read it.
local MESSAGE_BYTES = 256

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
local found, bytes, has_more, step = {}, 0, 0, 1
repeat
  local entries = redis.call('XRANGE', messages, '(' .. last_id, '+', 'COUNT', step)
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
    found[#found + 1] = read
    last_id = entry[1]
  end
  local was_last = #entries < step
  step = math.min(2 * step, STEP_MAX)
until was_last or has_more == 1
return {head[1], tonumber(head[3]), tonumber(head[2]), head[4], small and 1 or 0, has_more, found, marks, 0}
