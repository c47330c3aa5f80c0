-- The scripts run inside Redis: Lua 5.1 with what Redis gives them.
std = "lua51"
read_globals = { "redis", "server", "KEYS", "ARGV", "cjson", "cmsgpack", "bit", "struct" }
max_line_length = 120
