SELECT 'problem',
       format('%s credential(s) need key %s, which the keyring does not have',
              u.current + u.previous + u.pending + u.aggregator, coalesce(u."keyId", 'of an unknown form')),
       'byHand',
       'Put the key back, from a copy of the keyring or by `intcred keyring restore`, and reload the configuration. Or set these credentials again.'
FROM integration_credentials.key_usage() AS u
WHERE u."keyId" IS NULL OR u."keyId" NOT IN (SELECT k."keyId" FROM integration_credentials.keyring_status() AS k)
