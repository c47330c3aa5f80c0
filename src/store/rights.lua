#!lua flags=no-writes,allow-oom
-- Each element of ARGV is a command as a JSON list. Returns the indexes of those that the caller may not run. Runs none
-- of them, and skips those that this Redis does not know.
local missing = {}
for place, command in ipairs(ARGV) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(cjson.decode(command)))
  if known and not allowed then
    missing[#missing + 1] = place
  end
end
return missing
