#!lua
-- Deletes a topic with everything that belongs to it.
-- KEYS: topics, then every key to delete
-- ARGV: name
redis.call('SREM', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
