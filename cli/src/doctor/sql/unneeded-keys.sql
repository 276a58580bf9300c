-- A key after the one that encrypts was added and is not used yet.
SELECT 'advice', format('no credential of this database needs key %s', k."keyId"), 'byHand',
       format('intcred keyring retire FILE %s', k."keyId")
FROM (SELECT s.*, max(s.place) FILTER (WHERE s.writes) OVER () AS writing
      FROM integration_credentials.keyring_status() WITH ORDINALITY AS s ("keyId", fingerprint, writes, place)) AS k
WHERE k.place < k.writing
    AND k."keyId" NOT IN (SELECT u."keyId" FROM integration_credentials.key_usage() AS u WHERE u."keyId" IS NOT NULL)
