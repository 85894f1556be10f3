#!lua
-- Claims an event for a group.
-- KEYS: event
-- ARGV: how long the claim lasts, in ms
-- Returns: -2 if it is claimed now, -1 if it was done, else for how long another has it
local state = redis.call('GET', KEYS[1])
if state == 'done' then return -1 end
if state then return math.max(redis.call('PTTL', KEYS[1]), 0) end
redis.call('SET', KEYS[1], 'claimed', 'PX', ARGV[1])
return -2
