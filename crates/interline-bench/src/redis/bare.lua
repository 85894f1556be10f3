-- Stores a batch and nothing more.
-- KEYS: heads, session, a stream for each partition
-- ARGV: number of the batch, then of each event: partition from 1, attributes, payload
local call = redis.call
for i = 2, #ARGV, 3 do call('XADD', KEYS[tonumber(ARGV[i]) + 2], '*', 'data', ARGV[i + 2]) end
return 0
