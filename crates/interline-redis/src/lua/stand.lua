#!lua flags=no-writes
-- Tells how partitions stand against a place in each.
-- KEYS: topic, store, then a stream per partition
-- ARGV: per partition its number and the id of a place
-- Returns: store, incarnation, time in ms, then per partition
--   {first id, kind of the first, last id ever given, id of the last dense event, kind at the place}
-- where a kind is 1 for an event with a dense id, 0 for another, -1 for none.
local function kind(entries)
  local entry = entries[1]
  if not entry then return -1 end
  if entry[2][1] == 'ce' and string.sub(entry[1], -2) ~= '-0' then return 1 end
  return 0
end
local time = redis.call('TIME')
local answer = {
  redis.call('GET', KEYS[2]),
  redis.call('HGET', KEYS[1], 'incarnation'),
  time[1] * 1000 + math.floor(time[2] / 1000),
}
for i = 3, #KEYS do
  local key, number, place = KEYS[i], ARGV[(i - 3) * 2 + 1], ARGV[(i - 3) * 2 + 2]
  local head = redis.call('HGET', KEYS[1], number) or ''
  if place == head then
    -- Everything was read: what is kept does not matter, and large events are not looked at.
    answer[#answer + 1] = {'', -1, head, head, 1}
  else
    local last = '0-0'
    -- A stream that nobody has written to is not there, and that is no error.
    local info = redis.pcall('XINFO', 'STREAM', key)
    if not info.err then
      for f = 1, #info, 2 do
        if info[f] == 'last-generated-id' then last = info[f + 1] end
      end
    end
    local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)
    local at = {}
    if place ~= '0-0' then at = redis.call('XRANGE', key, place, place, 'COUNT', 1) end
    answer[#answer + 1] = {first[1] and first[1][1] or '', kind(first), last, head, kind(at)}
  end
end
return answer
