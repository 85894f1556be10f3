#!lua flags=allow-oom
-- Removes what is older than the retention and settled by every group that was seen within it.
-- KEYS: topic, groups, then a stream per partition, in order
-- ARGV: 1 incarnation, 2 how long ago the last time has to be, in ms
-- Returns: how many events were removed
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local state = call('HMGET', KEYS[1], 'incarnation', 'retention', 'trimmed', 'stream')
-- A stream of somebody else is theirs to trim, and one client at a time is enough.
if state[1] ~= ARGV[1] or state[4] then return 0 end
if now - tonumber(state[3] or '0') < tonumber(ARGV[2]) then return 0 end
call('HSET', KEYS[1], 'trimmed', now)
local limit = now - tonumber(state[2])
local lowest = {}
local groups = call('HGETALL', KEYS[2])
for g = 1, #groups, 2 do
  if tonumber(groups[g + 1]) >= limit then
    local all = call('HGETALL', KEYS[1] .. ':group:' .. groups[g] .. ':checkpoints')
    for i = 1, #all, 2 do
      local ms, n = string.match(all[i + 1], '^(%d+)-(%d+)')
      if ms then
        local known = lowest[all[i]]
        ms, n = tonumber(ms), tonumber(n)
        if not known or ms < known.ms or (ms == known.ms and n < known.n) then
          lowest[all[i]] = {ms = ms, n = n, id = string.match(all[i + 1], '^%S+')}
        end
      end
    end
  end
end
local removed = 0
for s = 3, #KEYS do
  local id = limit .. '-0'
  local known = lowest[tostring(s - 3)]
  -- The event at the frontier stays: it proves that nothing before it is missed.
  if known and known.ms < limit then id = known.id end
  removed = removed + call('XTRIM', KEYS[s], 'MINID', '~', id, 'LIMIT', 0)
end
return removed
