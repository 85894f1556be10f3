
-- Shows that a member lives, and tells how its group stands.
-- ARGV: 3 '1' if it is leaving, 4 how long it lives from now, 5 the group
-- Returns: 'ok', time to the next expiry of another or -1, live members, and per partition
--   'NUMBER FENCE OWNER PASSING FREE TOKEN' with - for no owner
if not known then return {'ok', -1, {}} end
local life = now + ARGV[4]
call('HSET', KEYS[4], me, life .. (ARGV[3] == '1' and ' leaving' or ''))
call('HSET', KEYS[3], ARGV[5], now)
local ends, live, nearest = {}, {}, -1
for name, text in pairs_of(KEYS[4]) do
  local over, leaving = until_of(text)
  ends[name] = over
  if over > now then
    if not leaving then live[#live + 1] = name end
    if name ~= me and (nearest < 0 or over - now < nearest) then nearest = over - now end
  end
end
local answer, owners = {'ok', nearest, live}, {}
for number, text in pairs_of(KEYS[5]) do
  local fence, owner, third = lease_of(text)
  local token, free, passing = third, 0, 0
  if owner == '-' then
    free = now - third
  else
    owners[owner] = true
    token, passing = ends[owner] or 0, third
    if token <= now then owner, free, passing = '-', now - token, 0 end
  end
  answer[#answer + 1] = table.concat({number, fence, owner, passing, free, token}, ' ')
end
-- The time of a dead owner still tells since when its partitions are free.
for name, over in pairs(ends) do
  if over <= now and not owners[name] then call('HDEL', KEYS[4], name) end
end
return answer
