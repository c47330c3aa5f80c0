#!lua
-- send_message: append one message to a room and tell everyone connected.
--
-- KEYS[1] meta      hash     chat:{room:R}:meta
-- KEYS[2] members   hash     chat:{room:R}:members
-- KEYS[3] reads     zset     chat:{room:R}:reads
-- KEYS[4] messages  stream   chat:{room:R}:messages
-- KEYS[5] viewers   hash     chat:{room:R}:viewers
-- KEYS[6] ext       hash     chat:{room:R}:ext
-- KEYS[7] sent      string   chat:{room:R}:sent:<user>:<clientMessageId>
-- KEYS[8] events    channel  chat:{room:R}:events
-- ARGV[1] user               string   the sender
-- ARGV[2] content            string   the text, UTF-8
-- ARGV[3] client_id          string   the sender's own id of this message, '' for none
-- ARGV[4] history_max        integer  messages to keep, at least; 0 keeps all
-- ARGV[5] dedupe_ttl_secs    integer  how long a client_id is remembered
-- ARGV[6] content_max_bytes  integer  bytes of content, at most
-- ARGV[7] call               string   names this call: a server that makes it again gets the first result, no duplicate
-- Returns   {id, seq, duplicate 0|1}
-- Publishes events {"event":"message","epoch","rev","seq","id","sender","content","clientMessageId"?,"readBy"?,"readCount"}
-- Errors    MESSAGE_TOO_LARGE | NOT_MEMBER
-- Time      O(viewers) in rooms of at most SMALL_ROOM members, O(1) in larger ones
-- Try       redis-cli --eval lua/send_message.lua 'chat:{room:1}:meta' 'chat:{room:1}:members' 'chat:{room:1}:reads' 'chat:{room:1}:messages' 'chat:{room:1}:viewers' 'chat:{room:1}:ext' 'chat:{room:1}:sent:alice:' 'chat:{room:1}:events' , alice hello '' 0 86400 16384 c1

-- Up to this many members, those who view the room have read a message at once.
local SMALL_ROOM = 100

local meta, members, reads, messages = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local viewers, ext, sent, events = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local user, content, client_id = ARGV[1], ARGV[2], ARGV[3]
local history_max, dedupe_ttl_secs, content_max_bytes = tonumber(ARGV[4]), ARGV[5], tonumber(ARGV[6])
local call = ARGV[7]

if #content > content_max_bytes then
  return redis.error_reply('MESSAGE_TOO_LARGE "content" has ' .. #content .. ' bytes; at most ' .. content_max_bytes
    .. ' are accepted')
end
local head = redis.call('HMGET', meta, 'epoch', 'seq', 'rev', 'last_id')
if not head[1] or redis.call('HEXISTS', members, user) == 0 then
  return redis.error_reply('NOT_MEMBER You do not have permission to join this chat.')
end
if client_id ~= '' then
  local first = redis.call('GET', sent)
  if first then
    local first_id, first_call = first:match('^(%S+) (.*)$')
    return {first_id, tonumber(first_id:match('-(%d+)$')), first_call == call and 0 or 1}
  end
end

-- Reading every key that is written below finds one of a wrong type before anything is stored.
redis.call('ZCARD', reads)
redis.call('XLEN', messages)
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local small = redis.call('HLEN', members) <= SMALL_ROOM

local epoch, seq, rev = head[1], head[2] + 1, head[3] + 1
local last_ms = tonumber(head[4]:match('^(%d+)-'))
-- As text for the calls below: Redis writes a number out to 17 digits, which costs it more than the call itself.
local seq_text, rev_text = string.format('%d', seq), string.format('%d', rev)
local id = string.format('%d-', math.max(now_ms, last_ms)) .. seq_text

local readers, marks = {user}, {seq_text, user}
if small then
  local leases, seen = redis.call('HGETALL', viewers), {[user] = true}
  for i = 2, #leases, 2 do
    local lease_end_ms, viewer = leases[i]:match('^(%d+):(.*)$')
    if viewer and tonumber(lease_end_ms) > now_ms and not seen[viewer] then
      seen[viewer] = true
      readers[#readers + 1] = viewer
      marks[#marks + 1], marks[#marks + 2] = seq_text, viewer
    end
  end
end

local entry = {'sender', user, 'content', content}
if client_id ~= '' then
  entry[5], entry[6] = 'client_id', client_id
end
if history_max > 0 then
  redis.call('XADD', messages, 'MAXLEN', '~', history_max, id, unpack(entry))
else
  redis.call('XADD', messages, id, unpack(entry))
end
redis.call('HSET', meta, 'seq', seq_text, 'rev', rev_text, 'last_id', id)
redis.call('ZADD', reads, 'GT', unpack(marks))
if client_id ~= '' then
  redis.call('SET', sent, id .. ' ' .. call, 'EX', dedupe_ttl_secs)
end

local event = {
  event = 'message', epoch = epoch, rev = rev, seq = seq, id = id,
  sender = user, content = content, clientMessageId = client_id ~= '' and client_id or nil,
  readBy = small and readers or nil, readCount = #readers,
}
redis.call('SPUBLISH', events, cjson.encode(event))
return {id, seq, 0}
