-- A member goes: what it held and its share are free at once, and what it had accepted counts.
local TURNS, MEMBERS = KEYS[1], KEYS[2]
local text = redis.call('HGET', MEMBERS, ARGV[1])
if not text then return 0 end
local more = tonumber(ARGV[2]) - math.max(cjson.decode(text).told or 0, tonumber(ARGV[3]))
if more > 0 then redis.call('HINCRBY', TURNS, 'used', more) end
return redis.call('HDEL', MEMBERS, ARGV[1])
