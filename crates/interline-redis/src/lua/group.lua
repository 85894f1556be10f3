#!lua flags=allow-oom
-- What the scripts of groups have in common. They run even when the memory is full: a checkpoint
-- that cannot be stored would make events run again for want of a few bytes.
-- KEYS: topic, store, groups, members, leases, checkpoints
-- ARGV: 1 incarnation of the topic, 2 who asks, 3.. of the script
-- Members: name -> 'UNTIL', or 'UNTIL leaving' of one that takes no more.
-- Leases: number -> 'FENCE OWNER 0', 'FENCE OWNER 1' if it will be released, 'FENCE - SINCE' if
-- it is free. An owner has it until its time as a member is over, and after that until another
-- takes it.
-- Checkpoints: number -> 'FRONTIER PROGRESS', and the incarnation that they are places of.
-- Times are in milliseconds since 1970 by the server's clock.
local call = redis.call
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local me = ARGV[2]
if call('HGET', KEYS[1], 'incarnation') ~= ARGV[1] then
  return {'gone', call('GET', KEYS[2])}
end
local known = call('HGET', KEYS[6], 'incarnation')
if known and known ~= ARGV[1] then return {'stale'} end

local function pairs_of(key)
  local all, i = call('HGETALL', key), -1
  return function()
    i = i + 2
    return all[i], all[i + 1]
  end
end

local function until_of(text)
  return tonumber(string.match(text or '0', '^%d+')), string.find(text or '', 'leaving', 1, true)
end

local function lease_of(text)
  local fence, owner, third = string.match(text or '0 - 0', '^(%d+) (%S+) (%d+)$')
  return tonumber(fence), owner, tonumber(third)
end

local function any_live()
  for _, text in pairs_of(KEYS[4]) do
    if until_of(text) > now then return true end
  end
  return false
end
