#!lua
-- import_room: bring messages and read markers of the replaced server into a room, and create it if it is missing.
--
-- Only `chat-server import` calls it. It is not one of the scripts that operators edit: today's rules do not apply to
-- what was said back then. A long history takes several calls, the oldest messages first.
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
-- KEYS[10…] for each member, in the order of the members in ARGV:
--   rooms        zset     chat:{user:U}:rooms
--   user_events  channel  chat:{user:U}:events
-- ARGV[1] room              string   the room's id
-- ARGV[2] kind              string   direct | group
-- ARGV[3] name              string   the group's name, '' for none
-- ARGV[4] nonce             string   random, makes the epoch of a new room unique
-- ARGV[5] participants_max  integer  members of a room, at most
-- ARGV[6] rooms_max         integer  rooms of a user, at most
-- ARGV[7] after             string   the room's last message as the caller has read it, '0-0' for none
-- ARGV[8] dry_run           integer  1: everything is checked and nothing is written
-- ARGV[9] marker_count      integer  how many markers there are
-- ARGV[10…] for each member, each once:
--   member  string  the user's id
-- then for each marker:
--   reader    string   a member
--   read_seq  integer  the number of the last message read
-- then for each message:
--   ms         integer  when it was sent
--   sender     string   who sent it
--   content    string   the text, UTF-8
--   client_id  string   its id in the replaced server
--   type       string   the message's type, 'text' for most
--   parts      string   the bytes of each string of a content that is an array, '5,12'; '' for a string
-- Returns   {outcome, created 0|1, moved markers, last_id}; the outcome is
--           done:    it is written, or was there already
--           used:    the room has lost its meta, so nobody knows whose its messages are; nothing was written
--           changed: its last message is not `after`; nothing was written
-- Publishes user_events {"event":"room","roomId","epoch","rev","seq","lastId","type","name","memberCount","members"?,"fresh":false}
--           events {"event":"imported","epoch","rev","seq","lastId"}, with a rev that skips one
-- Errors    TOO_MANY_PARTICIPANTS | TOO_MANY_ROOMS
-- Time      O(members + messages)

-- Up to this many members, they are listed by name.
local SMALL_ROOM = 100
local MESSAGE_FIELDS = 6

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local events = KEYS[9]
local room, kind, name, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local participants_max, rooms_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local after, dry_run, marker_count = ARGV[7], ARGV[8] == '1', tonumber(ARGV[9])
local FIRST_KEY, FIRST_MEMBER = 10, 10
local FIRST_MARKER = FIRST_MEMBER + (#KEYS - FIRST_KEY + 1) / 2
local FIRST_MESSAGE = FIRST_MARKER + 2 * marker_count

if FIRST_MARKER - FIRST_MEMBER > participants_max then
  return redis.error_reply('TOO_MANY_PARTICIPANTS a chat has at most ' .. participants_max .. ' participants')
end
local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
local created = not head[1]
local seq, rev, last_id = tonumber(head[2] or 0), tonumber(head[3] or 0), head[4] or '0-0'
if last_id ~= after then
  return {'changed', 0, 0, last_id}
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Reading every key that is written below finds a key of the wrong type before anything is stored.
if redis.call('XLEN', messages) > 0 and created then
  return {'used', 0, 0, last_id}
end
redis.call('HLEN', members)
redis.call('ZCARD', reads)
-- An existing group keeps its members; a direct room is written again, so that a half-made one is repaired.
local adds = created or kind == 'direct'
local gaining = {}
for key = FIRST_KEY, #KEYS, 2 do
  local member = FIRST_MEMBER + (key - FIRST_KEY) / 2
  local count, has = redis.call('ZCARD', KEYS[key]), redis.call('ZSCORE', KEYS[key], room)
  if adds and not has and count >= rooms_max then
    return redis.error_reply('TOO_MANY_ROOMS ' .. ARGV[member] .. ' is in ' .. rooms_max
      .. ' chats, and nobody can be in more')
  end
  if adds and (created or not has or redis.call('HEXISTS', members, ARGV[member]) == 0) then
    gaining[#gaining + 1] = {user = ARGV[member], rooms = KEYS[key], user_events = KEYS[key + 1]}
  end
end
local moving = {}
for i = FIRST_MARKER, FIRST_MESSAGE - 1, 2 do
  local marker = tonumber(redis.call('ZSCORE', reads, ARGV[i]) or 0)
  if marker < tonumber(ARGV[i + 1]) and (created or redis.call('HEXISTS', members, ARGV[i]) == 1) then
    moving[#moving + 1] = {user = ARGV[i], seq = ARGV[i + 1]}
  end
end
local changes = created or #gaining > 0 or #moving > 0 or FIRST_MESSAGE <= #ARGV
if dry_run or not changes then
  return {'done', created and 1 or 0, #moving, last_id}
end

local last_ms = tonumber(last_id:match('^%d+'))
local first_ms = FIRST_MESSAGE <= #ARGV and math.min(tonumber(ARGV[FIRST_MESSAGE]), now_ms) or 0
for i = FIRST_MESSAGE, #ARGV, MESSAGE_FIELDS do
  seq = seq + 1
  -- The clock of the replaced server may have been ahead, or may have been set back.
  last_ms = math.max(math.min(tonumber(ARGV[i]), now_ms), last_ms)
  last_id = string.format('%d-%d', last_ms, seq)
  local entry = {'sender', ARGV[i + 1], 'content', ARGV[i + 2], 'client_id', ARGV[i + 3]}
  if ARGV[i + 4] ~= 'text' then
    entry[#entry + 1], entry[#entry + 2] = 'type', ARGV[i + 4]
  end
  if ARGV[i + 5] ~= '' then
    entry[#entry + 1], entry[#entry + 2] = 'parts', ARGV[i + 5]
  end
  redis.call('XADD', messages, last_id, unpack(entry))
end
local epoch = head[1]
if created then
  -- Lists are ordered by the last message: a room without messages comes last.
  epoch, rev = string.format('%d-', now_ms) .. nonce, 1
  redis.call('HSET', meta, 'type', kind, 'name', name, 'created_at', string.format('%d', first_ms), 'epoch', epoch)
else
  -- A rev is skipped, so that servers see a gap and read the new messages as they read anything they have missed.
  rev = rev + 2
end
redis.call('HSET', meta, 'seq', string.format('%d', seq), 'rev', string.format('%d', rev), 'last_id', last_id,
  'imported_id', last_id)
for _, gain in ipairs(gaining) do
  redis.call('HSETNX', members, gain.user, 'member')
  redis.call('ZADD', gain.rooms, 'NX', string.format('%d', first_ms), room)
end
for _, move in ipairs(moving) do
  redis.call('ZADD', reads, 'GT', move.seq, move.user)
end

local member_count = redis.call('HLEN', members)
local stored = redis.call('HMGET', meta, 'type', 'name')
local event = {
  event = 'room', roomId = room, epoch = epoch, rev = rev, seq = seq, lastId = last_id,
  type = stored[1], name = stored[2], memberCount = member_count, fresh = false,
}
if member_count <= SMALL_ROOM then
  event.members = redis.call('HKEYS', members)
end
local gained = #gaining > 0 and cjson.encode(event)
for _, gain in ipairs(gaining) do
  redis.call('SPUBLISH', gain.user_events, gained)
end
if not created then
  redis.call('SPUBLISH', events, cjson.encode({
    event = 'imported', epoch = epoch, rev = rev, seq = seq, lastId = last_id,
  }))
end
return {'done', created and 1 or 0, #moving, last_id}
