-- Every function of the extension and its one view. The bodies of the C functions are in extension/src/, under the
-- same names. None is STRICT: a NULL argument must be an error, and a STRICT function would return NULL instead.

-- The org of this session: the setting integration_credentials.org_slug, else the database's name.
CREATE FUNCTION integration_credentials.current_org() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'current_org';

------------------------------------------------------------------------------------------------------- for admins

-- Those called admin_* run as their owner, as SECURITY DEFINER functions do, but see to it themselves: so that the audit
-- log can name the role that called. See extension/src/calls/caller.rs.

CREATE FUNCTION integration_credentials.admin_set_integration_credentials(key text, value text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials';

-- The same with a value that the caller has sealed to the key below, so that no SQL ever holds it.
CREATE FUNCTION integration_credentials.admin_set_integration_credentials_sealed(key text, sealed bytea, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials_sealed';

-- {"form", "org", "role", "issuedAt", "keyId", "publicKey"}: what to seal to and for, the public key in base64.
CREATE FUNCTION integration_credentials.sealing_key() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'sealing_key';

CREATE FUNCTION integration_credentials.admin_remove_integration_credentials(key text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_remove_integration_credentials';

-- Registers an integration, or replaces what is registered under the key; is_enabled, validator and sync handler of
-- an existing entry stay as they are. Rules: {"minLength", "maxLength", "prefix", "pattern", "schema"}, each optional.
CREATE FUNCTION integration_credentials.admin_register_integration(
        key text, display_name text, actor text,
        rules jsonb DEFAULT '{}', docs_url text DEFAULT NULL, example text DEFAULT NULL)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_register_integration';

-- Takes an entry out of the catalog. Refused while any org still has a credential for it.
CREATE FUNCTION integration_credentials.admin_unregister_integration(key text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_unregister_integration';

CREATE FUNCTION integration_credentials.admin_set_integration_enabled(key text, enabled boolean, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_enabled';

-- A failed call leaves no metering row, for its transaction is gone: the client writes it with this one, after.
-- `outcome` is a code of the error table; `parameters` a JSON object, redacted here again whatever the client did.
CREATE FUNCTION integration_credentials.record_tool_failure(
        tool_key text, outcome text, parameters text, duration_ms double precision)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'record_tool_failure';

------------------------------------------------------------------------------------------------------ for readers

-- Not SECURITY DEFINER: it reads by index, runs no SQL, and looks up no name by search_path. Who may call it may read.
CREATE FUNCTION integration_credentials.get_integration_credentials(key text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_integration_credentials';

-- The same, with what tells this value from another one, all of the same row.
CREATE FUNCTION integration_credentials.get_integration_credentials_with_revision(key text)
    RETURNS TABLE (value text, revision bigint, "updatedAt" timestamptz)
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_integration_credentials_with_revision';

-- Every credential that get_integration_credentials would return, in one round trip. One that it would refuse, as it cannot be
-- decrypted, has no value here, and the code of the error. In C, because the rows of a
-- function in SQL go to a temporary file above work_mem, and these hold plaintext; ORDER BY would do the same.
CREATE FUNCTION integration_credentials.get_all_integration_credentials()
    RETURNS TABLE (key text, value text, revision bigint, "updatedAt" timestamptz, error text)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'get_all_integration_credentials';

-- What the shipped sync handler wrote for the review aggregator.
CREATE FUNCTION integration_credentials.get_aggregator_credentials(key text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_aggregator_credentials';

------------------------------------------------------------------------------- for admins, readers and auditors

-- Volatile, though they only read: so they have their snapshot after the lock on the tables. One that a statement took
-- before it waited for ALTER TABLE to rewrite a table would show an empty table.
CREATE FUNCTION integration_credentials.list_integrations()
    RETURNS TABLE (
        key              text,
        "displayName"    text,
        "isEnabled"      boolean,
        "isConfigured"   boolean,       -- this org has had a credential for it
        "hasCredentials" boolean,       -- and has one now
        revision         bigint,        -- 0 where there has been none
        "updatedAt"      timestamptz)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT k.integration_key, k.display_name, k.is_enabled,
               c.org_slug IS NOT NULL, c.ciphertext IS NOT NULL,
               coalesce(c.revision, 0), c.updated_at
        FROM integration_credentials.integration_catalog k
        LEFT JOIN integration_credentials.configured_integrations c
            ON c.integration_key = k.integration_key
           AND c.org_slug = (SELECT integration_credentials.current_org())
        ORDER BY k.integration_key;
    END;

-- The same for these keys alone; those that the catalog does not have are left out.
CREATE FUNCTION integration_credentials.list_integrations(keys text[])
    RETURNS TABLE (
        key text, "displayName" text, "isEnabled" boolean, "isConfigured" boolean, "hasCredentials" boolean,
        revision bigint, "updatedAt" timestamptz)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT k.integration_key, k.display_name, k.is_enabled,
               c.org_slug IS NOT NULL, c.ciphertext IS NOT NULL,
               coalesce(c.revision, 0), c.updated_at
        FROM integration_credentials.integration_catalog k
        LEFT JOIN integration_credentials.configured_integrations c
            ON c.integration_key = k.integration_key
           AND c.org_slug = (SELECT integration_credentials.current_org())
        WHERE k.integration_key = ANY (list_integrations.keys)
        ORDER BY k.integration_key;
    END;

-- The catalog with what an admin needs to fill in a credential.
CREATE FUNCTION integration_credentials.describe_integrations()
    RETURNS TABLE (
        key text, "displayName" text, "isEnabled" boolean, "docsUrl" text, example text, rules jsonb,
        validator text, "syncHandler" text, "syncMode" text)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT k.integration_key, k.display_name, k.is_enabled, k.docs_url, k.example, k.rules,
               k.validator, k.sync_handler, k.sync_mode
        FROM integration_credentials.integration_catalog k
        ORDER BY k.integration_key;
    END;

-------------------------------------------------------------------------------------------------------- for auditors

-- The barrier keeps a reader's own functions in WHERE from seeing the rows of other orgs.
CREATE VIEW integration_credentials.audit_log WITH (security_barrier) AS
    SELECT id, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at
    FROM integration_credentials.webapp_org_admin_audit_log
    WHERE org_slug = (SELECT integration_credentials.current_org());

--------------------------------------------------------------------------------------------- for superusers only

-- Each stores the signature of a function, e.g. 'app.check_salesforce(text)'; NULL takes it off again. Not definer
-- functions: they ask for a superuser themselves, so that a careless GRANT opens nothing.
CREATE FUNCTION integration_credentials.register_validator(key text, validator text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'register_validator';

CREATE FUNCTION integration_credentials.register_sync_handler(
        key text, sync_handler text, mode text DEFAULT 'surface')
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'register_sync_handler';

-- The sync handler that TrustRadius ships with.
CREATE FUNCTION integration_credentials.sync_aggregator_credentials(org_slug text, key text, value text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'sync_aggregator_credentials';
