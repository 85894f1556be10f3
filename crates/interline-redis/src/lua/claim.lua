
-- Takes partitions that stand as they were seen.
-- ARGV: 3 how long the member lives from now, then number, fence and token of each
-- Returns: 'ok', then 'FENCE FRONTIER PROGRESS' of each, or ''
local answer = {'ok'}
for i = 4, #ARGV, 3 do
  local number = ARGV[i]
  local fence, owner, token = lease_of(call('HGET', KEYS[5], number))
  if owner ~= '-' then token = until_of(call('HGET', KEYS[4], owner)) end
  local taken = ''
  if known and fence == tonumber(ARGV[i + 1]) and token == tonumber(ARGV[i + 2]) then
    -- Higher than what a lost end of the log may have held, too.
    fence = math.max(fence + 1, now)
    call('HSET', KEYS[5], number, fence .. ' ' .. me .. ' 0')
    taken = fence .. ' ' .. (call('HGET', KEYS[6], number) or '0-0')
  end
  answer[#answer + 1] = taken
end
local _, leaving = until_of(call('HGET', KEYS[4], me))
call('HSET', KEYS[4], me, now + ARGV[3] .. (leaving and ' leaving' or ''))
return answer
