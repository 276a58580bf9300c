-- Runs last in the install script, so that only the owner keeps a privilege. Postgres lets PUBLIC execute a
-- new function, and the default privileges of the installing role may grant more.
REVOKE ALL ON ALL ROUTINES IN SCHEMA integration_credentials FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA integration_credentials FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA integration_credentials FROM PUBLIC;

DO $$
DECLARE
    kept record;
BEGIN
    FOR kept IN
        SELECT DISTINCT acl.grantee::regrole::text AS grantee
        FROM pg_catalog.pg_namespace n
        LEFT JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
        LEFT JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
        CROSS JOIN LATERAL (
            SELECT * FROM pg_catalog.aclexplode(n.nspacl)
            UNION ALL SELECT * FROM pg_catalog.aclexplode(c.relacl)
            UNION ALL SELECT * FROM pg_catalog.aclexplode(p.proacl)) acl
        WHERE n.nspname = 'integration_credentials' AND acl.grantee NOT IN (0::oid, n.nspowner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON SCHEMA integration_credentials FROM %s', kept.grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL TABLES IN SCHEMA integration_credentials FROM %s', kept.grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA integration_credentials FROM %s', kept.grantee);
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL ROUTINES IN SCHEMA integration_credentials FROM %s', kept.grantee);
    END LOOP;
END
$$;

-- Who watches the server may watch a run of reencrypt().
GRANT USAGE ON SCHEMA integration_credentials TO pg_monitor;
GRANT EXECUTE ON FUNCTION integration_credentials.reencrypt_runs() TO pg_monitor;
GRANT SELECT ON integration_credentials.reencrypt_progress TO pg_monitor;
