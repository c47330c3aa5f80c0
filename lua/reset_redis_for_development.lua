#!lua flags=allow-oom
-- reset_redis_for_development: delete all chat keys of this installation and nothing else; notify every server.
--
-- KEYS[1] control  channel  chat:control
-- ARGV[1] pattern  string   what the keys of this installation look like, for SCAN: chat:{*
-- Returns   {deleted}
-- Publishes control {"event":"reset"}
-- Errors    none
-- Time      O(all keys in Redis): for development only
-- Try       redis-cli --eval lua/reset_redis_for_development.lua 'chat:control' , 'chat:{*'

local control = KEYS[1]
local pattern = ARGV[1]

-- Only this script touches keys that it was not given: it deletes what SCAN finds, in one step, so that no server sees
-- half a reset.
local deleted, cursor = 0, '0'
repeat
  local scan = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000)
  cursor = scan[1]
  for _, key in ipairs(scan[2]) do
    deleted = deleted + redis.call('UNLINK', key)
  end
until cursor == '0'
redis.call('SPUBLISH', control, '{"event":"reset"}')
return {deleted}
