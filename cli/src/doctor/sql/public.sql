WITH object(name, acl) AS (
    SELECT 'SCHEMA ' || oid::regnamespace, nspacl
    FROM pg_namespace
    WHERE nspname = 'integration_credentials'
    UNION ALL
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || oid::regclass, relacl
    FROM pg_class
    WHERE relnamespace = to_regnamespace('integration_credentials')
    UNION ALL
    SELECT 'TABLE ' || attrelid::regclass, attacl
    FROM pg_attribute
    JOIN pg_class ON pg_class.oid = attrelid
    WHERE relnamespace = to_regnamespace('integration_credentials')
    UNION ALL
    -- A function without an ACL is executable by PUBLIC.
    SELECT 'ROUTINE ' || oid::regprocedure, coalesce(proacl, acldefault('f', proowner))
    FROM pg_proc
    WHERE pronamespace = to_regnamespace('integration_credentials'))
SELECT 'problem', format('PUBLIC has %s on %s', string_agg(DISTINCT privilege_type, ', '), name),
       'sql', format('REVOKE ALL ON %s FROM PUBLIC;', name)
FROM object, aclexplode(acl)
WHERE grantee = 0
GROUP BY name
ORDER BY name
