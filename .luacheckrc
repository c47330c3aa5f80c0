-- The scripts run inside Redis: Lua 5.1 with what Redis gives them.
std = "lua51"
read_globals = { "redis", "server", "KEYS", "ARGV", "cjson", "cmsgpack", "bit", "struct" }
max_line_length = 120
-- Headers hold whole command lines.
max_comment_line_length = false
-- Scripts name all keys of a room that they are given, in one order, whether they use them or not.
ignore = {
  "211/meta", "211/members", "211/reads", "211/messages", "211/viewing", "211/ext", "211/sent_a",
  "211/sent_b", "211/events",
  "212/ext",
}
