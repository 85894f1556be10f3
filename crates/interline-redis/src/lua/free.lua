
-- Frees partitions of which their owner has read what the server has lost since.
-- ARGV: 2 the group, 3.. number and fence of each, and the place that is lost
-- Returns: 'ok', then 1 for each, or 0 for one whose checkpoint stands at that place, too
local answer = {'ok'}
for i = 3, #ARGV, 3 do
  local number = ARGV[i]
  local fence, owner = lease_of(call('HGET', KEYS[5], number))
  local frontier = string.match(call('HGET', KEYS[6], number) or '', '^%S+')
  local kept = frontier ~= ARGV[i + 2]
  if kept and owner ~= '-' and fence == tonumber(ARGV[i + 1]) then
    call('HSET', KEYS[5], number, fence .. ' - ' .. now)
  end
  answer[#answer + 1] = kept and 1 or 0
end
return answer
