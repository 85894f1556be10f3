#!lua
-- Stores a batch of a publisher's session in the partitions of one topic.
-- KEYS: topic, session, [the present and the last window,] then a stream per partition
-- ARGV: 1 incarnation, 2 number of the batch in its session, 3 life of the session in ms,
--       4 window in ms or 0, 5 '1' for dense ids, 6 layout,
--       then the number of each stream's partition, then the values of the events.
-- The layout has three bytes per event: which values there are (1 key, 2 data), and the place of
-- the stream. The values are: attributes, [key,] [data,] [identity with a window].
-- Returns 'gone' if the topic is another now, 'gap' if batches before this one are missing,
-- 'old' if it is too old to know, or what became of the events:
--   MS-N,MS-N,..|EXCEPTION|EXCEPTION..
-- with the id before the first new one per stream, and for the events that do not follow it, by
-- their place in the batch: 'I=MS-N' was there before, 'I@MS-N' has this id, 'I^MS' has this time
-- with all after it in its stream, 'I!text' could not be stored.

-- Names that every event needs are local: those are found faster.
local call, pcall = redis.call, redis.pcall
local byte, format, keys, argv = string.byte, string.format, KEYS, ARGV
local number, window = tonumber(argv[2]), tonumber(argv[4])
local dense = argv[5] == '1'
local layout = argv[6]
local before = window > 0 and 4 or 2
local streams = #keys - before
local fields = {'incarnation', 'turned'}
for s = 1, streams do fields[s + 2] = argv[6 + s] end
local state = call('HMGET', keys[1], unpack(fields))
if state[1] ~= argv[1] then return 'gone' end

local session = call('GET', keys[2])
local last, answer, earlier = 0, '', ''
if session then
  last, answer, earlier = string.match(session, '^(%d+)\n([^\n]*)\n([^\n]*)$')
  last = tonumber(last)
end
-- A batch that was answered in vain gets the same answer again. Only the next number is new: one
-- that overtook a lost batch on another connection must not hide it.
if number == last then return answer end
if number == last - 1 and earlier ~= '' then return earlier end
if number < last then return 'old' end
if number > last + 1 then return 'gap' end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ms, n, heads = {}, {}, {}
for s = 1, streams do
  local head_ms, head_n = string.match(state[s + 2] or '0-0', '^(%d+)-(%d+)$')
  ms[s] = format('%.0f', math.max(now, tonumber(head_ms)))
  n[s] = tonumber(head_n)
  heads[s] = ms[s] .. '-' .. n[s]
end

local events = #layout / 3
local seen = {}
local at = 7 + streams
if window > 0 then
  local turned = tonumber(state[2] or '0')
  if now - turned >= window then
    if now - turned >= 2 * window then call('UNLINK', keys[3], keys[4])
    elseif call('EXISTS', keys[3]) == 1 then call('RENAME', keys[3], keys[4]) end
    call('HSET', keys[1], 'turned', now)
  end
  local ids = {}
  for i = 1, events do
    local flags = byte(layout, 3 * i - 2)
    at = at + 1 + flags % 2 + math.floor(flags / 2)
    ids[i] = argv[at]
    at = at + 1
  end
  for _, key in ipairs({keys[3], keys[4]}) do
    local known = call('HMGET', key, unpack(ids))
    for i = 1, events do
      if known[i] then seen[ids[i]] = known[i] end
    end
  end
end

-- The id that the last entry of a stream has, or had.
local function newest(key)
  local info = call('XINFO', 'STREAM', key)
  for f = 1, #info, 2 do
    if info[f] == 'last-generated-id' then return info[f + 1] end
  end
end

local function add(key, id, flags, at)
  if flags == 2 then return pcall('XADD', key, id, 'ce', argv[at], 'data', argv[at + 1]) end
  if flags == 0 then return pcall('XADD', key, id, 'ce', argv[at]) end
  if flags == 1 then return pcall('XADD', key, id, 'ce', argv[at], 'key', argv[at + 1]) end
  return pcall('XADD', key, id, 'ce', argv[at], 'key', argv[at + 1], 'data', argv[at + 2])
end

local exceptions, marks = {}, {}
local function except(i, what) exceptions[#exceptions + 1] = '|' .. (i - 1) .. what end
local values = {1, 2, 2, 3}
at = 7 + streams
for i = 1, events do
  local flags, high, low = byte(layout, 3 * i - 2, 3 * i)
  local s = high * 256 + low + 1
  local first = at
  at = at + values[flags + 1]
  local identity
  if window > 0 then identity = argv[at]; at = at + 1 end
  if identity and seen[identity] then
    except(i, '=' .. seen[identity])
  else
    local key = keys[before + s]
    local id = dense and format('%s-%d', ms[s], n[s] + 1) or '*'
    local added
    if flags == 2 then
      -- Almost every event, and a call of `add` is dear.
      added = pcall('XADD', key, id, 'ce', argv[first], 'data', argv[first + 1])
    else
      added = add(key, id, flags, first)
    end
    if added.err and dense and string.find(added.err, 'equal or smaller', 1, true) then
      -- Another client wrote here within this millisecond, or ahead of the clock.
      ms[s] = format('%.0f', tonumber(string.match(newest(key), '^%d+')) + 1)
      except(i, '^' .. ms[s])
      id = ms[s] .. '-' .. (n[s] + 1)
      added = add(key, id, flags, first)
    end
    if added.err then
      -- What is stored stays stored: one event that cannot be does not undo the others.
      except(i, '!' .. string.gsub(added.err, '[%c|]', ' '))
    else
      n[s] = n[s] + 1
      if not dense then except(i, '@' .. added) end
      if identity then
        seen[identity] = added
        marks[#marks + 1] = identity
        marks[#marks + 1] = added
      end
    end
  end
end

if #marks > 0 then call('HSET', keys[3], unpack(marks)) end
if dense then
  local set = {}
  for s = 1, streams do
    set[2 * s - 1], set[2 * s] = fields[s + 2], ms[s] .. '-' .. n[s]
  end
  call('HSET', keys[1], unpack(set))
end
local result = table.concat(heads, ',') .. table.concat(exceptions)
call('SET', keys[2], argv[2] .. '\n' .. result .. '\n' .. answer, 'PX', argv[3])
return result
