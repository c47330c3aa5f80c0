#!lua flags=no-writes
-- compare_rooms: find the rooms that are no longer where a server left them. Servers call it for rooms without events.
--
-- KEYS[1…] for each room, at most 128 rooms:
--   meta  hash  chat:{room:R}:meta
-- ARGV[1…] for each room, in the order of KEYS:
--   epoch    string   of the last event delivered
--   rev      integer  of the last event delivered
--   last_id  string   the newest message by then, '0-0' for none
-- Returns   {place…}: the places, from 1, of the rooms that are elsewhere now by one of these, or are gone
-- Publishes nothing
-- Errors    none
-- Time      O(rooms)
-- Try       redis-cli --eval lua/compare_rooms.lua 'chat:{room:1}:meta' , "$(redis-cli hget 'chat:{room:1}:meta' epoch)" 1 0-0

local heads = {}
for i = 1, #KEYS do
  heads[i] = redis.pcall('HMGET', KEYS[i], 'epoch', 'rev', 'last_id')
end

local changed = {}
for i = 1, #ARGV, 3 do
  local epoch, rev, last_id = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2]
  local place = (i + 2) / 3
  local head = heads[place]
  -- For a room that is gone all are false. A room whose key has a wrong type is skipped, because it cannot be read.
  -- A room that was set back, and has had as many changes since, has the same rev and another message.
  if not head.err and (head[1] ~= epoch or tonumber(head[2]) ~= rev or head[3] ~= last_id) then
    changed[#changed + 1] = place
  end
end
return changed
