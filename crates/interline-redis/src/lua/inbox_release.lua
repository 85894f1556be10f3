#!lua flags=allow-oom
-- Gives a claim back.
-- KEYS: event
if redis.call('GET', KEYS[1]) == 'claimed' then redis.call('DEL', KEYS[1]) end
return 1
