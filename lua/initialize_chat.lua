#!lua
-- initialize_chat: create a room, or find the existing one, and publish it to everyone who gained it.
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
-- ARGV[1] room              string   the room's id (two people's is a function of their ids)
-- ARGV[2] kind              string   direct | group
-- ARGV[3] name              string   the group's name, '' for none
-- ARGV[4] nonce             string   random, makes the epoch of a new room unique
-- ARGV[5] participants_max  integer  members of a room, at most
-- ARGV[6] rooms_max         integer  rooms of a user, at most
-- ARGV[7…] for each member, each once, who asks first:
--   member  string  the user's id
-- Returns   {created 0|1, event as published or '', entry}: the entry is get_chat_list's for who asks, its active_at the time of creation; {} if fresh
-- Publishes user_events {"event":"room","roomId","epoch","rev","seq","lastId","type","name","memberCount","members"?,"fresh"}
-- Errors    TOO_MANY_PARTICIPANTS | TOO_MANY_ROOMS
-- Time      O(members)
-- Try       redis-cli --eval lua/initialize_chat.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewing' 'chat:{room:1}:ext' 'chat:{room:1}:sent:a' 'chat:{room:1}:sent:b' 'chat:{room:1}:events' 'chat:{user:alice}:rooms' 'chat:{user:alice}:events' 'chat:{user:bob}:rooms' 'chat:{user:bob}:events' , 1 direct '' n1 1000 10000 alice bob

-- Up to this many members, they are listed by name.
local SMALL_ROOM = 100
-- Bytes of the last message's content in a list, as JSON.
local PREVIEW_BYTES = 512

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewing, ext, sent_a, sent_b, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local room, kind, name, nonce = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local participants_max, rooms_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local FIRST_KEY, FIRST_MEMBER = 10, 7

if #ARGV - FIRST_MEMBER + 1 > participants_max then
  return redis.error_reply('TOO_MANY_PARTICIPANTS a chat has at most ' .. participants_max
    .. ' participants, you among them')
end
local created = redis.call('HLEN', meta) == 0
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
-- Reading every key that is used below finds one of a wrong type before anything is stored.
redis.call('HLEN', members)
redis.call('ZCARD', reads)
redis.call('XLEN', messages)
-- A group that is there keeps its members; two people's room is written again, so that a half-made one heals.
local adds = created or kind == 'direct'
for key = FIRST_KEY, #KEYS, 2 do
  local count = redis.call('ZCARD', KEYS[key])
  if adds and count >= rooms_max and not redis.call('ZSCORE', KEYS[key], room) then
    return redis.error_reply('TOO_MANY_ROOMS you, or one of the participants, are in ' .. rooms_max
      .. ' chats, and nobody can be in more')
  end
end

-- Rules of your own: here. They refuse with REJECTED, and nothing is written yet.

local seq, last_id = 0, '0-0'
if created then
  -- If a room lost its meta, the rest is kept: the newest message's id gives the number and time to continue from.
  local newest = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', 1)[1]
  if newest then
    seq, last_id = tonumber(newest[1]:match('-(%d+)$')), newest[1]
  end
  for _, user in ipairs(redis.call('ZRANGE', reads, '(' .. seq, '+inf', 'BYSCORE')) do
    redis.call('ZADD', reads, seq, user)
  end
  redis.call('HSET', meta, 'type', kind, 'name', name, 'created_at', now_ms, 'created_by', ARGV[FIRST_MEMBER],
    'epoch', now_ms .. '-' .. nonce, 'seq', seq, 'rev', 1, 'last_id', last_id)
end
local gained = {}
if adds then
  for i = FIRST_MEMBER, #ARGV do
    local role = kind == 'group' and i == FIRST_MEMBER and 'owner' or 'member'
    redis.call('HSETNX', members, ARGV[i], role)
    local key = FIRST_KEY + 2 * (i - FIRST_MEMBER)
    if redis.call('ZADD', KEYS[key], 'NX', now_ms, room) == 1 or created then
      gained[#gained + 1] = KEYS[key + 1]
    end
  end
end

local member_count = redis.call('HLEN', members)
local small = member_count <= SMALL_ROOM
local listed = small and redis.call('HKEYS', members) or {}
local head = redis.call('HMGET', meta, 'type', 'name', 'epoch', 'rev', 'seq', 'last_id', 'created_at')
local event = {
  event = 'room', roomId = room, epoch = head[3], rev = tonumber(head[4]), seq = tonumber(head[5]), lastId = head[6],
  type = head[1], name = head[2], memberCount = member_count, fresh = created and seq == 0,
}
if small then event.members = listed end
local published = ''
if #gained > 0 then
  published = cjson.encode(event)
  for _, channel in ipairs(gained) do
    redis.call('SPUBLISH', channel, published)
  end
end
if event.fresh then
  return {1, published, {}}
end

-- Returns the beginning of a content, at most PREVIEW_BYTES as JSON, and whether the content was cut.
local function preview(content)
  local cut = math.min(#content, PREVIEW_BYTES)
  local bytes = #cjson.encode(content:sub(1, cut)) - 2
  while bytes > PREVIEW_BYTES do
    cut = math.floor(cut * PREVIEW_BYTES / bytes)
    bytes = #cjson.encode(content:sub(1, cut)) - 2
  end
  -- A byte 10xxxxxx continues a UTF-8 character: cut before the character, not inside.
  while cut > 0 and cut < #content and bit.band(content:byte(cut + 1), 0xC0) == 0x80 do
    cut = cut - 1
  end
  return content:sub(1, cut), cut < #content and 1 or 0
end

-- The newest message by its fields' names, whatever else its entry holds; what is missing is false.
local function last_message()
  local newest = redis.call('XREVRANGE', messages, '+', '-', 'COUNT', 1)[1]
  if not newest then
    return {}
  end
  local id, fields = newest[1], {}
  for i = 1, #newest[2], 2 do
    fields[newest[2][i]] = newest[2][i + 1]
  end
  local content, truncated = false, 0
  if fields.content then
    content, truncated = preview(fields.content)
  end
  local number = id:match('-(%d+)$')
  local readers = small and redis.call('ZRANGE', reads, number, '+inf', 'BYSCORE') or {}
  local read_count = small and #readers or redis.call('ZCOUNT', reads, number, '+inf')
  return {
    id, fields.sender or false, content, truncated, fields.client_id or '', read_count, readers,
    fields.type or 'text', fields.parts or '',
  }
end

local marker = tonumber(redis.call('ZSCORE', reads, ARGV[FIRST_MEMBER]) or 0)
return {created and 1 or 0, published, {
  head[1], head[2], head[3], event.rev, event.seq, head[6], tonumber(head[7]),
  marker, member_count > 1 and 1 or 0, member_count, listed, last_message(),
}}
