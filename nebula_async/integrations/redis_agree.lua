-- A member decided what follows from what all knew at a version; where others decided meanwhile it has to look again.
-- Turns may have been reserved meanwhile: `last` never goes back.
local TURNS, POLICY = KEYS[1], KEYS[4]
local state = cjson.decode(ARGV[1])
local version = tonumber(redis.call('HGET', TURNS, 'version') or 0)
if version ~= state.based_on then return 0 end
local last = redis.call('HGET', TURNS, 'last')
if state.last and tonumber(state.last) > tonumber(last or '-1e15') then redis.call('HSET', TURNS, 'last', state.last) end
redis.call('HSET', TURNS, 'version', state.version, 'given', state.given, 'interval', state.interval,
  'held_until', state.held_until, 'closed_until', state.closed_until, 'is_named', state.is_named,
  'asked_at', state.asked_at, 'seen_left', state.seen_left)
redis.call('SET', POLICY, state.text)
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 172800000) end
return 1
