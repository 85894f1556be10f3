
-- Removes a member; what it owns is free.
call('HDEL', KEYS[4], me)
for number, text in pairs_of(KEYS[5]) do
  local fence, owner = lease_of(text)
  if owner == me then call('HSET', KEYS[5], number, fence .. ' - ' .. now) end
end
return {'ok'}
