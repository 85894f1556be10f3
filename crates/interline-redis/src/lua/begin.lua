
-- Makes a group known, with a checkpoint per partition; one that is known stays as it is.
-- ARGV: 2 the group, 3.. the checkpoint of each partition
if not known then
  for i = 3, #ARGV do
    call('HSET', KEYS[6], i - 3, ARGV[i])
    call('HSET', KEYS[5], i - 3, '0 - ' .. now)
  end
  call('HSET', KEYS[6], 'incarnation', ARGV[1])
  call('HSET', KEYS[3], me, now)
end
return {'ok'}
