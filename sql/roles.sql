-- The group roles and their grants. Roles belong to the whole cluster, so CREATE EXTENSION does not
-- create them. Run this file as a superuser, in the database that has the extension, with
--     psql -d DATABASE -f roles.sql        or        intcred grant
-- Running it again changes nothing. Then, for example: GRANT integration_credentials_admin TO provisioning;

BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
-- Functions that the owner of the database has put on the search_path must not run as a superuser.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;

DO $$
DECLARE
    group_role text;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'only a superuser may grant what the owner of the extension has'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Run this as a superuser.';
    END IF;
    IF pg_catalog.to_regprocedure('integration_credentials.rotation_status(text)') IS NULL THEN
        RAISE EXCEPTION 'this database has an earlier version of the extension'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Run ALTER EXTENSION integration_credentials UPDATE, and then this again.';
    END IF;
    -- The last two have no grants: the roles of API keys of `intcred mcp`, for pg_hba.conf, and those of them whose
    -- calls may give a value in the clear.
    FOREACH group_role IN ARRAY ARRAY['integration_credentials_admin', 'integration_credentials_reader',
                                      'integration_credentials_auditor', 'integration_credentials_lister',
                                      'integration_credentials_mcp', 'integration_credentials_mcp_values']
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = group_role) THEN
            EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', group_role);
        END IF;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA integration_credentials
    TO integration_credentials_admin, integration_credentials_reader, integration_credentials_auditor,
       integration_credentials_lister;

GRANT EXECUTE ON FUNCTION
    integration_credentials.current_org(),
    integration_credentials.list_integrations(),
    integration_credentials.list_integrations(text[]),
    integration_credentials.describe_integrations()
    TO integration_credentials_admin, integration_credentials_reader, integration_credentials_auditor,
       integration_credentials_lister;

GRANT EXECUTE ON FUNCTION
    integration_credentials.credential_reads(text),
    integration_credentials.rotation_status(text)
    TO integration_credentials_admin, integration_credentials_reader, integration_credentials_auditor;

-- Admins write values, and cannot read a value back.
GRANT EXECUTE ON FUNCTION
    integration_credentials.admin_set_integration_credentials(text, text, text),
    integration_credentials.admin_set_integration_credentials_sealed(text, bytea, text),
    integration_credentials.admin_set_integration_credentials(text, text, text, jsonb),
    integration_credentials.admin_set_integration_credentials_sealed(text, bytea, text, jsonb),
    integration_credentials.admin_promote_integration_credentials(text, text, bigint),
    integration_credentials.admin_discard_integration_credentials(text, text),
    integration_credentials.admin_rollback_integration_credentials(text, text, bigint),
    integration_credentials.admin_retire_integration_credentials(text, text, boolean),
    integration_credentials.sealing_key(),
    integration_credentials.admin_remove_integration_credentials(text, text),
    integration_credentials.admin_remove_integration_credentials(text, text, boolean),
    integration_credentials.find_integration_credentials(bytea, text),
    integration_credentials.check_credentials(),
    integration_credentials.record_tool_failure(text, text, text, double precision)
    TO integration_credentials_admin;

-- All orgs of the database share the catalog. Where each org has its own admins, grant these four functions
-- to the operator's role alone.
GRANT EXECUTE ON FUNCTION
    integration_credentials.admin_register_integration(text, text, text, jsonb, text, text),
    integration_credentials.admin_unregister_integration(text, text),
    integration_credentials.admin_set_integration_enabled(text, boolean, text),
    integration_credentials.admin_set_integration_keep_previous(text, interval, text)
    TO integration_credentials_admin;

GRANT EXECUTE ON FUNCTION
    integration_credentials.get_integration_credentials(text),
    integration_credentials.get_integration_credentials_with_revision(text),
    integration_credentials.get_all_integration_credentials(),
    integration_credentials.get_integration_credentials(text, text),
    integration_credentials.get_valid_integration_credentials(text),
    integration_credentials.report_held_revisions(uuid, text, jsonb, interval),
    integration_credentials.get_aggregator_credentials(text)
    TO integration_credentials_reader;

GRANT SELECT ON integration_credentials.audit_log TO integration_credentials_auditor;
GRANT EXECUTE ON FUNCTION
    integration_credentials.audit_head(),
    integration_credentials.audit_seal(),
    integration_credentials.audit_proof(bigint),
    integration_credentials.audit_sealed(bigint, integer)
    TO integration_credentials_auditor;

COMMIT;
