-- A member of an account is heard of, tells what it did, and reserves turns. One clock counts, that of Redis: `wall` is
-- its time, for the day, and `now` the same without ever going back. Policy is not decided here: `interval`,
-- `held_until` and `closed_until` are written by redis_agree.lua, and where they do not suffice `is_stale` says so.
local TURNS, MEMBERS, MARKS, POLICY = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local LEASE, PRESENT, GRACE, CAUTION = 58, 1.5, 8, 0.95
local AHEAD, MOST_LATE, LOOK_AGAIN, MARK = 30, 0.05, 5, 0.5
local DAY, BACK, DOUBT, RENEW, KEPT_MS = 86400, 3600, 60, 60, 172800000

local ask = cjson.decode(ARGV[1])
local state = {}
local found = redis.call('HGETALL', TURNS)
for i = 1, #found, 2 do state[found[i]] = found[i + 1] end
local function number(name, default) return tonumber(state[name] or '') or default end
local function stamp(value) return string.format('%.6f', value) end

local time = redis.call('TIME')
local wall = tonumber(time[1]) + tonumber(time[2]) / 1e6
local offset = number('offset', 0)
local now = wall + offset
if now < number('now', now) then
  offset = offset + number('now', now) - now
  now = number('now', now)
end

-- Who shares the account: whoever was heard of within a lease. Those who came back tell whom they knew before.
for _, name in ipairs(ask.dead) do redis.call('HDEL', MEMBERS, name) end
for _, other in ipairs(ask.others) do
  local text = redis.call('HGET', MEMBERS, other[1])
  local member = text and cjson.decode(text) or {joined = 0, heard = 0, n = other[2], slots = 0}
  member.seen = math.max(member.seen or 0, now - LEASE + GRACE)
  redis.call('HSET', MEMBERS, other[1], cjson.encode(member))
end
local members, me = {}, nil
found = redis.call('HGETALL', MEMBERS)
for i = 1, #found, 2 do
  local member = cjson.decode(found[i + 1])
  if found[i] == ask.member then
    me = member
  elseif now - member.seen < LEASE then
    members[found[i]] = member
  else
    redis.call('HDEL', MEMBERS, found[i])
  end
end
me = me or {joined = now, seen = now, heard = ask.heard and 0 or nil}
-- That a member was heard of does not say that it hears: it tells which answer it had last, and how many it knew then.
local heard, knew = me.heard, ask.knew
if ask.heard and ask.heard < me.seen + 0.001 then heard = math.max(heard or 0, ask.heard) end
local count, away, slots, ahead, is_known = 1, 0, ask.slots, 0, true
local per_minute, per_day, shared = ask.per_minute, ask.per_day, ask.shared
local function lowest(one, other) return one and other and math.min(one, other) or one or other end
for _, member in pairs(members) do
  count = count + 1
  slots = slots + member.slots
  per_minute = lowest(per_minute, member.per_minute)
  per_day = lowest(per_day, member.per_day)
  shared = lowest(shared, member.shared)
  is_known = is_known and (member.heard or member.joined) > me.joined
  if now - (member.heard or member.seen) > PRESENT then
    away = away + (member.heard and CAUTION / member.n or 0)  -- it may go on alone with that share
  elseif member.waits and member.waits < (me.waits or now) then
    ahead = ahead + 1
  end
end

-- The day. Members tell how many were accepted since they began, so that nothing is counted twice.
local today, day, used = math.floor(wall / DAY), number('day', 0), number('used', 0)
if today > day then day, used = today, 0 end
if day * DAY - wall > BACK then day = today end  -- the clock had been wrong; set back by less it gives nothing twice
if ask.day == day then used = math.max(used, ask.used) end
local told = math.max(me.told or 0, ask.told)  -- it forgets what it accepted alone before the day began
used = used + math.max(0, ask.mine - told)
local closed, is_certain, is_final = 0, true, false
if per_day and used >= per_day then
  closed, is_final = DAY - wall % DAY, true
elseif number('closed_until', 0) > wall and number('asked_at', 0) - wall <= BACK then
  local asked = wall - number('asked_at', 0)
  closed, is_final = math.min(number('closed_until', 0) - wall, DAY), state.is_named == '1'
  is_certain = is_final or (asked >= 0 and asked < DOUBT)
end

-- The turns, evenly spaced: `Pace.wait` and `Pace.release` of a course.
local given = per_minute and stamp(per_minute) or 'none'
local interval, held_until, last = number('interval', nil), number('held_until', 0), number('last', -1e15)
local is_stale = interval == nil or state.given ~= given
local share = math.max(1 - away, 1 - CAUTION)
local turns, again, left = {}, LOOK_AGAIN, number('left', 0) - ask.unused
local room = shared and shared - slots - ahead or ask.count
local wanted = (is_stale or (closed > 0 and is_certain)) and 0 or math.min(ask.count, math.max(room, 0))
if closed > 0 then wanted = math.min(wanted, 1) end
if last > now + AHEAD + 60 then last = now end
for _ = 1, wanted do
  local step = interval / share
  local due = math.max(last + step, held_until)
  local turn = math.max(due, now)
  if turn - now > AHEAD then
    again = math.min(turn - now - AHEAD, LOOK_AGAIN)
    break
  end
  last = turn - due <= math.min(step / 2, MOST_LATE) and due or turn
  left = left + 1
  if turn - number('mark', -1e15) >= MARK then
    if redis.call('RPUSH', MARKS, stamp(turn) .. ' ' .. left) == 1 then redis.call('PEXPIRE', MARKS, KEPT_MS) end
    redis.call('LTRIM', MARKS, -160, -1)
    state.mark = stamp(turn)
  end
  turns[#turns + 1] = stamp(turn - now)
end
local waits = nil
if ask.count == 0 then
  if ask.wants then waits = me.waits end
elseif shared and room < ask.count and #turns == 0 then
  waits = me.waits or now
  again = math.min(0.02 * (1 + ahead), 0.5)
end
if closed > 0 and #turns > 0 then state.asked_at = stamp(wall) end

redis.call('HSET', MEMBERS, ask.member, cjson.encode({
  joined = me.joined, seen = now, heard = heard, n = math.min(knew or count, count), slots = ask.slots + #turns, waits = waits,
  told = math.max(told, ask.mine), per_minute = ask.per_minute, per_day = ask.per_day, shared = ask.shared,
}))
redis.call('HSET', TURNS, 'now', stamp(now), 'offset', stamp(offset), 'last', stamp(last), 'left', left,
  'mark', state.mark or '', 'day', day, 'used', used, 'asked_at', state.asked_at or '')

local answer = {
  version = number('version', 0), now = stamp(now), wall = stamp(wall), given = given, is_stale = is_stale,
  members = count, is_known = is_known, share = share, turns = turns, again = again,
  used = used, day = day, per_day = per_day, closed = closed, is_certain = is_certain, is_final = is_final,
  held = math.max(0, held_until - now), per_minute = per_minute, interval = interval,
}
if ask.version ~= answer.version then
  answer.policy = {
    text = redis.call('GET', POLICY) or '', left = left - number('seen_left', 0), seen_left = number('seen_left', 0),
    total = left, last = stamp(last), asked_at = stamp(number('asked_at', 0)),
    marks = redis.call('LRANGE', MARKS, 0, -1),
  }
end
if ask.count == 0 then
  answer.others = {}
  for name, member in pairs(members) do
    answer.others[#answer.others + 1] = {name, member.n}
  end
end
if count == 1 or now - number('kept_at', 0) >= RENEW then
  redis.call('HSET', TURNS, 'kept_at', stamp(now))
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, KEPT_MS) end
end
return cjson.encode(answer)
