-- Begins a sign-in in a cluster, where the session may lie on another server: its audit event is written here,
-- before the session is (by the epilogue), unless the store has another epoch.
-- KEYS: head · ARGV: epoch
-- answers 1.
local no = refused(head_at(KEYS[1]), ARGV[1])
if no then return no end
return 1
