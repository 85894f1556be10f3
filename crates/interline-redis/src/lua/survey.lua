
-- Tells how a group stands without being a member.
-- Returns: 'ok', number of live members, then per partition
--   'NUMBER OWNER HEAD CHECKPOINT' with - for no owner
local ends, live = {}, 0
for name, text in pairs_of(KEYS[4]) do
  local over = until_of(text)
  ends[name] = over
  if over > now then live = live + 1 end
end
local answer = {'ok', live}
for number, text in pairs_of(KEYS[5]) do
  local _, owner = lease_of(text)
  if owner ~= '-' and (ends[owner] or 0) <= now then owner = '-' end
  local checkpoint = call('HGET', KEYS[6], number) or '0-0'
  local head = call('HGET', KEYS[1], number) or '0-0'
  answer[#answer + 1] = table.concat({number, owner, head, checkpoint}, ' ')
end
return answer
