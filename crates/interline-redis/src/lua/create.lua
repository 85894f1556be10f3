#!lua
-- Makes a topic unless it is there.
-- KEYS: topic, topics, store
-- ARGV: mark of the store if it has none, name, incarnation, partitions, retention in ms, key of a foreign stream or ''
-- Returns: 1 if it was made; incarnation, partitions, retention, foreign stream; store
redis.call('SETNX', KEYS[3], ARGV[1])
local made = redis.call('HSETNX', KEYS[1], 'incarnation', ARGV[3])
if made == 1 then
  redis.call('HSET', KEYS[1], 'partitions', ARGV[4], 'retention', ARGV[5])
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'stream', ARGV[6]) end
end
redis.call('SADD', KEYS[2], ARGV[2])
local is = redis.call('HMGET', KEYS[1], 'incarnation', 'partitions', 'retention', 'stream')
return {made, is[1], is[2], is[3], is[4], redis.call('GET', KEYS[3])}
