-- Checks the epoch before a sign-in in a cluster, where the session may be on another server. The epilogue
-- writes the audit event here, before the session is written there.
-- KEYS: head · ARGV: epoch
-- Returns 1.
local no = refused(head_at(KEYS[1]), ARGV[1])
if no then return no end
return 1
