
-- Notes that partitions will be released.
-- ARGV: number and fence of each
for i = 3, #ARGV, 2 do
  local fence, owner = lease_of(call('HGET', KEYS[5], ARGV[i]))
  if owner == me and fence == tonumber(ARGV[i + 1]) then
    call('HSET', KEYS[5], ARGV[i], fence .. ' ' .. me .. ' 1')
  end
end
return {'ok'}
