
-- Deletes a group that nobody is in.
-- ARGV: 2 the group
if any_live() then return {'live'} end
call('HDEL', KEYS[3], me)
call('UNLINK', KEYS[4], KEYS[5], KEYS[6])
return {'ok'}
