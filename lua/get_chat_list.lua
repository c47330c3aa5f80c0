#!lua flags=no-writes
-- get_chat_list: a user's rooms, and one chat list entry for each room asked for.
--
-- KEYS[1] rooms     zset    chat:{user:U}:rooms
-- KEYS[2…] for each room asked for, at most 128 rooms:
--   meta      hash    chat:{room:R}:meta
--   members   hash    chat:{room:R}:members
--   reads     zset    chat:{room:R}:reads
--   messages  stream  chat:{room:R}:messages
--   ext       hash    chat:{room:R}:ext
-- ARGV[1] user        string   whose list
-- ARGV[2] want_index  integer  1: the ids of all the user's rooms are returned too, 0: they are not
-- ARGV[3…] for each further user who waits for one of these rooms, at most 1,024:
--   place   integer  which of the rooms asked for, from 1
--   reader  string   the user's id
-- Returns   {{room id…}, {entry…}, {read seq…}}: an entry for each room asked for, {} where the user is no member, {why}
--           where the room cannot be read, else
--           {type, name, epoch, rev, seq, last_id, active_at, read seq, available 0|1, member count, {member…}, last}
--           with last {} or {id, sender, content, truncated 0|1, client_id, read_count, {reader…}, type, parts};
--           a read seq for each further user, whose entry is the same but for it; -1 where there is no entry, or the
--           user is no member
-- Publishes nothing
-- Errors    none
-- Time      O(rooms asked for + further users); members and readers are listed in rooms of at most SMALL_ROOM members only
-- Try       redis-cli --eval lua/get_chat_list.lua 'chat:{user:alice}:rooms' 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:ext' , alice 1

-- Up to this many members, members and readers are listed by name.
local SMALL_ROOM = 100
-- Bytes of the last message's content in a list, as JSON.
local PREVIEW_BYTES = 512
-- A timestamp further in the future comes from a clock that was ahead: it does not count as the latest activity.
local AHEAD_MAX_MS = 60000

local rooms = KEYS[1]
local user, want_index = ARGV[1], ARGV[2]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

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
local function last_message(messages, reads, small)
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
  local seq = id:match('-(%d+)$')
  local readers = small and redis.call('ZRANGE', reads, seq, '+inf', 'BYSCORE') or {}
  local read_count = small and #readers or redis.call('ZCOUNT', reads, seq, '+inf')
  return {
    id, fields.sender or false, content, truncated, fields.client_id or '', read_count, readers,
    fields.type or 'text', fields.parts or '',
  }
end

-- Returns when the room was last active: the latest of its timestamps that is not in the future.
local function active_at(last_id, created_at, sent_at)
  local latest = 0
  for _, stamp in ipairs({last_id:match('^%d+'), created_at or 0, sent_at or 0}) do
    if tonumber(stamp) <= now_ms + AHEAD_MAX_MS then
      latest = math.max(latest, tonumber(stamp))
    end
  end
  return latest
end

local function entry(meta, members, reads, messages, ext)
  local head = redis.call('HMGET', meta, 'type', 'name', 'epoch', 'rev', 'seq', 'last_id', 'created_at', 'sent_at')
  if not head[1] or redis.call('HEXISTS', members, user) == 0 then
    return {}
  end
  local member_count = redis.call('HLEN', members)
  local small = member_count <= SMALL_ROOM
  return {
    head[1], head[2], head[3], tonumber(head[4]), tonumber(head[5]), head[6], active_at(head[6], head[7], head[8]),
    tonumber(redis.call('ZSCORE', reads, user) or 0),
    -- There is someone left to talk to.
    member_count > 1 and 1 or 0,
    member_count,
    small and redis.call('HKEYS', members) or {},
    last_message(messages, reads, small),
  }
end

local index = want_index == '1' and redis.call('ZRANGE', rooms, 0, -1) or {}
local entries = {}
for i = 2, #KEYS, 5 do
  -- If a room cannot be read because a key has a wrong type, only its own entry is missing.
  local read, result = pcall(function()
    return entry(KEYS[i], KEYS[i + 1], KEYS[i + 2], KEYS[i + 3], KEYS[i + 4])
  end)
  entries[#entries + 1] = read and result or {type(result) == 'table' and result.err or tostring(result)}
end

-- A room is read once for all users who wait for it: only the read seq is read for each of them.
local read_seqs = {}
for i = 3, #ARGV, 2 do
  local place, reader = tonumber(ARGV[i]), ARGV[i + 1]
  local first_key = 2 + (place - 1) * 5
  local shown = #entries[place] > 1 and redis.call('HEXISTS', KEYS[first_key + 1], reader) == 1
  read_seqs[#read_seqs + 1] = shown and tonumber(redis.call('ZSCORE', KEYS[first_key + 2], reader) or 0) or -1
end
return {index, entries, read_seqs}
