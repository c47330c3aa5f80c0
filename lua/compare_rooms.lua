#!lua flags=no-writes
-- compare_rooms: which rooms are no longer where a server left them. Called by servers, of rooms in which nothing happens.
--
-- KEYS[1…] for each room, at most 128 rooms:
--   meta  hash  chat:{room:R}:meta
-- ARGV[1…] for each room, in the order of KEYS:
--   epoch  string   of the last event delivered
--   rev    integer  of the last event delivered
-- Returns   {place…}: the places, from 1, of the rooms that have another epoch or rev now, or are gone
-- Publishes nothing
-- Errors    none
-- Time      O(rooms)
-- Try       redis-cli --eval lua/compare_rooms.lua 'chat:{room:1}:meta' , "$(redis-cli hget 'chat:{room:1}:meta' epoch)" 1

local heads = {}
for i = 1, #KEYS do
  heads[i] = redis.pcall('HMGET', KEYS[i], 'epoch', 'rev')
end

local changed = {}
for i = 1, #ARGV, 2 do
  local epoch, rev = ARGV[i], tonumber(ARGV[i + 1])
  local place = (i + 1) / 2
  local head = heads[place]
  -- Of a room that is gone both are false. One whose key has a wrong type is left alone: nothing can be read of it.
  if not head.err and (head[1] ~= epoch or tonumber(head[2]) ~= rev) then
    changed[#changed + 1] = place
  end
end
return changed
