-- Stores checkpoints of partitions that are owned under a fence.
-- KEYS: leases, checkpoints; ARGV: owner, then of each partition: number, fence, position
local call = redis.call
for i = 2, #ARGV, 3 do
  if call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] .. ' ' .. ARGV[1] then
    call('HSET', KEYS[2], ARGV[i], ARGV[i + 2])
  end
end
return 1
