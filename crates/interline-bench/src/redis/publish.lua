-- Stores a batch under the next number of its session, with ids that count each partition's events.
-- KEYS: heads, session, a stream for each partition
-- ARGV: number of the batch, then of each event: partition from 1, attributes, payload
-- Returns: the number of the last event of each partition
local call = redis.call
local last = tonumber(call('GET', KEYS[2]) or '0')
if tonumber(ARGV[1]) ~= last + 1 then return redis.error_reply('OUT OF ORDER') end
local time = call('TIME')
local ms = time[1] .. string.format('%03d', math.floor(time[2] / 1000))
local names, heads = {}, {}
for p = 1, #KEYS - 2 do names[p] = p end
for p, head in ipairs(call('HMGET', KEYS[1], unpack(names))) do heads[p] = tonumber(head or '0') end
for i = 2, #ARGV, 3 do
  local p = tonumber(ARGV[i])
  local n = heads[p] + 1
  heads[p] = n
  call('XADD', KEYS[p + 2], ms .. '-' .. n, 'ce', ARGV[i + 1], 'data', ARGV[i + 2])
end
local set = {}
for p = 1, #heads do set[2 * p - 1], set[2 * p] = p, heads[p] end
call('HSET', KEYS[1], unpack(set))
call('SET', KEYS[2], ARGV[1], 'PX', 3600000)
return heads
