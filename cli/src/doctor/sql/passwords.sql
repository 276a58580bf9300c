SELECT 'problem', format('the password of %s is stored as MD5', oid::regrole), 'byHand',
       format('In psql, with password_encryption = scram-sha-256: \password %s', oid::regrole)
FROM pg_authid
WHERE rolpassword LIKE 'md5%'
ORDER BY rolname
