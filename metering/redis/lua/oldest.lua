-- What of an outbox has not landed, and whether it can be believed.
-- KEYS: 1 outbox, 2 generation
-- ARGV: none
-- Returns: {generation ('': lost), 1 if the stream is there (0: lost, or never written), id of its oldest entry ('': none)}
local oldest = redis_call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
return {redis_call('GET', KEYS[2]) or '', redis_call('EXISTS', KEYS[1]), oldest and oldest[1] or ''}
