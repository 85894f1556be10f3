
-- Stores checkpoints of partitions that are owned.
-- ARGV: 3 '1' to release them too, then number, fence and checkpoint of each; '' keeps the old one
-- Returns: 'ok', then 1 or 0 for each
local answer = {'ok'}
for i = 4, #ARGV, 3 do
  local number = ARGV[i]
  local fence, owner = lease_of(call('HGET', KEYS[5], number))
  local mine = owner == me and fence == tonumber(ARGV[i + 1])
  if mine then
    if ARGV[i + 2] ~= '' then call('HSET', KEYS[6], number, ARGV[i + 2]) end
    if ARGV[3] == '1' then call('HSET', KEYS[5], number, fence .. ' - ' .. now) end
  end
  answer[#answer + 1] = mine and 1 or 0
end
return answer
