WITH object(relation, relkind, owner, acl) AS (
    SELECT oid, relkind, relowner, relacl
    FROM pg_class
    WHERE relnamespace = to_regnamespace('integration_credentials')
    UNION ALL
    SELECT attrelid, relkind, relowner, attacl
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = to_regnamespace('integration_credentials'))
SELECT 'problem',
       format('%s has %s on %s', grantee::regrole, string_agg(DISTINCT privilege_type, ', '), relation::regclass),
       'sql', format('REVOKE ALL ON %s %s FROM %s;',
                     CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relation::regclass, grantee::regrole)
FROM object, aclexplode(acl)
WHERE grantee NOT IN (0, owner)
  -- Auditors read this view, which shows only their own org.
  AND (relation::regclass::text, privilege_type) <> ('integration_credentials.audit_log', 'SELECT')
  -- CREATE EXTENSION grants this one: how far a reencryption is.
  AND (relation::regclass::text, grantee) <> ('integration_credentials.reencrypt_progress', 'pg_monitor'::regrole)
GROUP BY grantee, relation, relkind
ORDER BY 2
