
-- Moves a group that nobody is in.
-- ARGV: 2 the group, 3.. the checkpoint of each partition
if any_live() then return {'live'} end
for i = 3, #ARGV do
  call('HSET', KEYS[6], i - 3, ARGV[i])
  if call('HEXISTS', KEYS[5], i - 3) == 0 then call('HSET', KEYS[5], i - 3, '0 - ' .. now) end
end
call('HSET', KEYS[6], 'incarnation', ARGV[1])
call('HSET', KEYS[3], me, now)
return {'ok'}
