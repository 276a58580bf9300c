-- These three lines begin every script. The owner of the database may have put functions and operators on the
-- search_path that match better than those of Postgres, and would run as the superuser that installs.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;

-- Schema and tables. Only the owner reads or writes a table; all other roles use the functions and the view
-- in functions.sql, so this file needs no GRANT.
--
-- Orgs and integration keys sort by their bytes (COLLATE "C"): fast, and no new collation version breaks an
-- index.

DO $$
BEGIN
    -- The library takes keys, values and messages as UTF-8.
    IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'integration_credentials needs a database with encoding UTF8'
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

-- Plain CREATE, never IF NOT EXISTS: a schema that another role made beforehand must stop the installation.
CREATE SCHEMA integration_credentials;
REVOKE ALL ON SCHEMA integration_credentials FROM PUBLIC;

-- The integrations that can be configured, and the rules of their values. All orgs of the database share the
-- catalog.
CREATE TABLE integration_credentials.integration_catalog (
    integration_key text COLLATE "C" PRIMARY KEY,
    display_name    text        NOT NULL,
    is_enabled      boolean     NOT NULL DEFAULT true,
    docs_url        text,
    example         text,                                -- the form of a value, never a real one
    rules           jsonb       NOT NULL DEFAULT '{}',   -- minLength, maxLength, prefix, pattern, schema
    -- Signatures, and the owners of the functions at registration. The library refuses a function whose owner
    -- has changed, because another role may have replaced it. A NULL owner marks a function of the extension.
    validator          text,                             -- f(value) returns text
    validator_owner    text,
    sync_handler       text,                             -- f(org_slug, key, value) returns void
    sync_handler_owner text,
    sync_mode       text        CHECK (sync_mode IN ('surface', 'background')),
    is_shipped      boolean     NOT NULL DEFAULT false,  -- inserted by CREATE EXTENSION; see catalog.sql
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CHECK ((sync_handler IS NULL) = (sync_mode IS NULL))
);

-- Keys that were deleted from the catalog, so that a restore does not bring shipped entries back.
CREATE TABLE integration_credentials.removed_integrations (
    integration_key text COLLATE "C" PRIMARY KEY
);

-- The credential of an org for an integration. A removal sets ciphertext to NULL and keeps the row, so that
-- the revision never goes back. There is no plaintext that a CHECK or an index could read. A foreign key
-- would break pg_restore -j, which loads the tables of an extension in any order.
CREATE TABLE integration_credentials.configured_integrations (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    revision        bigint      NOT NULL DEFAULT 1,
    ciphertext      bytea,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, integration_key)
) WITH (fillfactor = 70);  -- leaves room on the page, so that a rotation is a HOT update

-- Credentials that the shipped sync handler keeps for the review aggregator, encrypted.
CREATE TABLE integration_credentials.aggregator_credentials (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    ciphertext      bytea       NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, integration_key)
) WITH (fillfactor = 70);

-- The two logs. An id is unique in the whole table. The org comes first in the primary key because auditors
-- read by org, and so that the tables can be distributed by org.
CREATE TABLE integration_credentials.webapp_org_admin_audit_log (
    id           bigint      GENERATED ALWAYS AS IDENTITY,
    org_slug     text COLLATE "C" NOT NULL,
    actor        text        NOT NULL,   -- as the caller names it
    session_role text        NOT NULL,   -- the role that logged in, from Postgres
    acting_role  text        NOT NULL,   -- the role that called, from Postgres
    action       text        NOT NULL,
    target_type  text        NOT NULL,
    target_id    text        NOT NULL,
    metadata     jsonb       NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, id)
);

CREATE TABLE integration_credentials.tool_metering (
    id          bigint           GENERATED ALWAYS AS IDENTITY,
    org_slug    text COLLATE "C" NOT NULL,
    tool_key    text             NOT NULL,
    actor       text             NOT NULL,
    outcome     text             NOT NULL,   -- 'ok', or the code of the error
    duration_ms double precision NOT NULL,
    metadata    jsonb            NOT NULL,   -- {"parameters": {...}}; sensitive parameters are <redacted>
    created_at  timestamptz      NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, id)
);

-- ANALYZE of a log holds a snapshot, during which no old row version of a credential can be pruned, so
-- rotations make that table grow. Queries of a log need few statistics: a target of 10 samples 3,000 rows,
-- and the default of 100 samples 30,000.
ALTER TABLE integration_credentials.webapp_org_admin_audit_log
    ALTER id          SET STATISTICS 10, ALTER org_slug     SET STATISTICS 10,
    ALTER actor       SET STATISTICS 10, ALTER session_role SET STATISTICS 10,
    ALTER acting_role SET STATISTICS 10, ALTER action       SET STATISTICS 10,
    ALTER target_type SET STATISTICS 10, ALTER target_id    SET STATISTICS 10,
    ALTER metadata    SET STATISTICS 10, ALTER created_at   SET STATISTICS 10;
ALTER TABLE integration_credentials.tool_metering
    ALTER id          SET STATISTICS 10, ALTER org_slug     SET STATISTICS 10,
    ALTER tool_key    SET STATISTICS 10, ALTER actor        SET STATISTICS 10,
    ALTER outcome     SET STATISTICS 10, ALTER duration_ms  SET STATISTICS 10,
    ALTER metadata    SET STATISTICS 10, ALTER created_at   SET STATISTICS 10;

-- pg_dump dumps these rows and sequences, ciphertext included. The keyring is not in the database: back it up
-- elsewhere.
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.integration_catalog', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.removed_integrations', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.configured_integrations', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.aggregator_credentials', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.webapp_org_admin_audit_log', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.webapp_org_admin_audit_log_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.tool_metering', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.tool_metering_id_seq', '');
-- The functions of the extension and its view. extension/src/lib.rs lists the Rust function behind each C
-- function. No function is STRICT: a NULL argument must be an error, and a STRICT function would return NULL.

-- The org of this session: the setting integration_credentials.org_slug, or else the name of the database.
CREATE FUNCTION integration_credentials.current_org() RETURNS text
    LANGUAGE c STABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'current_org';

------------------------------------------------------------------------------------------------------- for admins

-- The admin_* functions run as their owner, but switch the role themselves: a SECURITY DEFINER function
-- cannot see which role called, and the audit log names that role. See extension/src/calls/caller.rs.

CREATE FUNCTION integration_credentials.admin_set_integration_credentials(key text, value text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials';

-- Like admin_set_integration_credentials, with a value sealed to the key of sealing_key(), so that no SQL
-- ever holds the plaintext.
CREATE FUNCTION integration_credentials.admin_set_integration_credentials_sealed(key text, sealed bytea, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials_sealed';

-- {"form", "org", "role", "issuedAt", "keyId", "publicKey"}: the key to seal to, in base64, and the terms to
-- seal for.
CREATE FUNCTION integration_credentials.sealing_key() RETURNS jsonb
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'sealing_key';

CREATE FUNCTION integration_credentials.admin_remove_integration_credentials(key text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_remove_integration_credentials';

-- Adds an integration, or replaces the entry of the key, except is_enabled, validator and sync handler.
-- Rules: {"minLength", "maxLength", "prefix", "pattern", "schema"}, each optional.
CREATE FUNCTION integration_credentials.admin_register_integration(
        key text, display_name text, actor text,
        rules jsonb DEFAULT '{}', docs_url text DEFAULT NULL, example text DEFAULT NULL)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_register_integration';

-- Removes an entry from the catalog. Refused while any org has a credential for the integration.
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

-- The rollback of a failed call takes its metering row along, so the client writes the row with this function
-- afterwards. `outcome` is an error code. `parameters` is a JSON object, which this function redacts again.
CREATE FUNCTION integration_credentials.record_tool_failure(
        tool_key text, outcome text, parameters text, duration_ms double precision)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'record_tool_failure';

------------------------------------------------------------------------------------------------------ for readers

-- Not SECURITY DEFINER: the function reads by index, runs no SQL, and looks up no name by search_path.
-- EXECUTE is the right to read.
CREATE FUNCTION integration_credentials.get_integration_credentials(key text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_integration_credentials';

-- The value with its revision and time, all from one row.
CREATE FUNCTION integration_credentials.get_integration_credentials_with_revision(key text)
    RETURNS TABLE (value text, revision bigint, "updatedAt" timestamptz)
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_integration_credentials_with_revision';

-- All credentials that get_integration_credentials would return, in one round trip. A credential that cannot
-- be decrypted has NULL for its value, and the code of the error. Not in SQL: above work_mem, Postgres writes
-- the rows of an SQL function to a temporary file, and these rows hold plaintext. ORDER BY on the result does
-- the same.
CREATE FUNCTION integration_credentials.get_all_integration_credentials()
    RETURNS TABLE (key text, value text, revision bigint, "updatedAt" timestamptz, error text)
    LANGUAGE c STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'get_all_integration_credentials';

-- The credential that the shipped sync handler wrote for the review aggregator.
CREATE FUNCTION integration_credentials.get_aggregator_credentials(key text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_aggregator_credentials';

------------------------------------------------------------------------------- for admins, readers and auditors

-- VOLATILE, though these functions only read: a VOLATILE function takes its snapshot after it has locked the
-- tables. A STABLE one uses the snapshot of the statement, which shows an empty table after an ALTER TABLE
-- has rewritten it.
CREATE FUNCTION integration_credentials.list_integrations()
    RETURNS TABLE (
        key              text,
        "displayName"    text,
        "isEnabled"      boolean,
        "isConfigured"   boolean,       -- this org has, or had, a credential
        "hasCredentials" boolean,       -- this org has a credential now
        revision         bigint,        -- 0 where this org never had a credential
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

-- The entries with these keys. A key that the catalog does not have yields no row.
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

-- The catalog with the rules and the example that an admin needs to enter a credential.
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

-- security_barrier keeps functions in a reader's WHERE from seeing the rows of other orgs.
CREATE VIEW integration_credentials.audit_log WITH (security_barrier) AS
    SELECT id, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at
    FROM integration_credentials.webapp_org_admin_audit_log
    WHERE org_slug = (SELECT integration_credentials.current_org());

--------------------------------------------------------------------------------------------- for superusers only

-- Each stores the signature of a function, e.g. 'app.check_salesforce(text)'; NULL removes it. The functions
-- check for a superuser themselves, so that a careless GRANT opens nothing.
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

-- The sync handler of the shipped entry trustradius.
CREATE FUNCTION integration_credentials.sync_aggregator_credentials(org_slug text, key text, value text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'sync_aggregator_credentials';
-- The entries that every installation begins with. Their rules are no stricter than the vendor's
-- documentation. An operator may change or remove any entry. The examples show the form of a value and are no
-- real credentials.

INSERT INTO integration_credentials.integration_catalog
    (is_shipped, integration_key, display_name, docs_url, example, rules, sync_handler, sync_mode)
VALUES
    -- "v2 API keys start with hg_v2_"
    (true, 'hginsights_v2', 'HG Insights (v2)', 'https://data-docs.hginsights.com/v2/guides/authentication',
     'hg_v2_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
     '{"prefix": "hg_v2_", "pattern": "hg_v2_[A-Za-z0-9]+", "maxLength": 255}',
     NULL, NULL),

    -- A token of an app: pat-<region>-<UUID>.
    (true, 'hubspot', 'HubSpot', 'https://developers.hubspot.com/docs/apps/legacy-apps/private-apps/overview',
     'pat-na1-xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx',
     '{"prefix": "pat-", "pattern": "pat-[a-z0-9]+-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"}',
     NULL, NULL),

    -- Classic, OAuth, app and fine-grained tokens by their documented prefixes.
    (true, 'github', 'GitHub',
     'https://docs.github.com/en/authentication/keeping-your-account-and-data-secure/about-authentication-to-github',
     'github_pat_xxxxxxxxxxxxxxxxxxxxxx_xxxxxxxx',
     '{"pattern": "(gh[pousr]_|github_pat_)[A-Za-z0-9_.-]+", "minLength": 20, "maxLength": 1024}',
     NULL, NULL),

    -- The OAuth 2.0 client credentials flow: a connected app's id and secret, and the domain to ask for a
    -- token.
    (true, 'salesforce', 'Salesforce',
     'https://help.salesforce.com/s/articleView?id=xcloud.remoteaccess_oauth_client_credentials_flow.htm',
     '{"instance_url": "https://example.my.salesforce.com", "client_id": "3MVG9...", "client_secret": "..."}',
     '{"schema": {
         "type": "object",
         "required": ["instance_url", "client_id", "client_secret"],
         "properties": {
             "instance_url":  {"type": "string", "pattern": "^https://[A-Za-z0-9.-]+\\.salesforce\\.com/?$"},
             "client_id":     {"type": "string", "minLength": 1},
             "client_secret": {"type": "string", "minLength": 1}},
         "additionalProperties": false}}',
     NULL, NULL),

    -- Bot tokens begin with xoxb-, user tokens with xoxp-.
    (true, 'slack', 'Slack', 'https://docs.slack.dev/authentication/tokens',
     'xoxb-000000000000-xxxxxxxxxxxxxxxxxxxxxxxx',
     '{"pattern": "xox[bp]-[A-Za-z0-9-]+", "minLength": 20, "maxLength": 255}',
     NULL, NULL),

    -- Secret and restricted keys, live and test.
    (true, 'stripe', 'Stripe', 'https://docs.stripe.com/keys',
     'rk_test_xxxxxxxxxxxxxxxxxxxxxxxx',
     '{"pattern": "(sk|rk)_(live|test)_[A-Za-z0-9]+", "minLength": 20, "maxLength": 255}',
     NULL, NULL),

    -- The vendor documents no form; the rule asks for printable ASCII without blanks.
    (true, 'trustradius', 'TrustRadius', 'https://apidocs.trustradius.com/',
     'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
     '{"pattern": "[!-~]+", "minLength": 8, "maxLength": 1024}',
     'integration_credentials.sync_aggregator_credentials(text, text, text)', 'surface');

-- A restore runs CREATE EXTENSION, and then loads the rows of the dump. A loaded row replaces the shipped row
-- of the same key, and a loaded key of removed_integrations deletes that row. So edited, added and removed
-- entries come back, in whatever order the tables are loaded.
CREATE FUNCTION integration_credentials.keep_catalog() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        INSERT INTO integration_credentials.removed_integrations VALUES (OLD.integration_key) ON CONFLICT DO NOTHING;
        RETURN OLD;
    END IF;
    DELETE FROM integration_credentials.integration_catalog k
        WHERE k.integration_key = NEW.integration_key AND k.is_shipped;
    IF TG_TABLE_NAME = 'integration_catalog' THEN
        DELETE FROM integration_credentials.removed_integrations r WHERE r.integration_key = NEW.integration_key;
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER replaces_shipped BEFORE INSERT ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.keep_catalog();
CREATE TRIGGER notes_removal AFTER DELETE ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.keep_catalog();
CREATE TRIGGER removes_shipped AFTER INSERT ON integration_credentials.removed_integrations
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.keep_catalog();

-- Sessions cache catalog entries. Every change invalidates the caches: by hand, in a restore, or by logical
-- replication, for which the triggers are ALWAYS and by row.
CREATE FUNCTION integration_credentials.catalog_changed() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'catalog_changed';
CREATE TRIGGER invalidates_caches AFTER INSERT OR UPDATE OR DELETE ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.catalog_changed();
CREATE TRIGGER invalidates_caches_on_truncate AFTER TRUNCATE ON integration_credentials.integration_catalog
    FOR EACH STATEMENT EXECUTE FUNCTION integration_credentials.catalog_changed();
ALTER TABLE integration_credentials.integration_catalog
    ENABLE ALWAYS TRIGGER invalidates_caches, ENABLE ALWAYS TRIGGER invalidates_caches_on_truncate;
-- Triggers for a subscriber of logical replication. There an apply worker writes the tables, not the
-- functions of the extension, and only REPLICA and ALWAYS triggers fire.

-- As in a restore, incoming rows replace shipped rows. The third trigger of the catalog, notes_removal, does
-- not fire here: the publisher replicates removed_integrations as well.
ALTER TABLE integration_credentials.integration_catalog ENABLE ALWAYS TRIGGER replaces_shipped;
ALTER TABLE integration_credentials.removed_integrations ENABLE ALWAYS TRIGGER removes_shipped;

-- Announces a resync to all listeners when a replicated change commits.
CREATE FUNCTION integration_credentials.announce_replicated() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'announce_replicated';

CREATE TRIGGER announces_replicated AFTER INSERT OR UPDATE OR DELETE ON integration_credentials.configured_integrations
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.announce_replicated();
CREATE TRIGGER announces_replicated_truncate AFTER TRUNCATE ON integration_credentials.configured_integrations
    FOR EACH STATEMENT EXECUTE FUNCTION integration_credentials.announce_replicated();
ALTER TABLE integration_credentials.configured_integrations
    ENABLE REPLICA TRIGGER announces_replicated, ENABLE REPLICA TRIGGER announces_replicated_truncate;

CREATE TRIGGER announces_replicated AFTER INSERT OR UPDATE OR DELETE ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.announce_replicated();
CREATE TRIGGER announces_replicated_truncate AFTER TRUNCATE ON integration_credentials.integration_catalog
    FOR EACH STATEMENT EXECUTE FUNCTION integration_credentials.announce_replicated();
ALTER TABLE integration_credentials.integration_catalog
    ENABLE REPLICA TRIGGER announces_replicated, ENABLE REPLICA TRIGGER announces_replicated_truncate;
-- Runs last in the install script, so that only the owner keeps a privilege. Postgres lets PUBLIC execute a
-- new function, and the default privileges of the installing role may grant more.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA integration_credentials FROM PUBLIC;
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
        EXECUTE pg_catalog.format('REVOKE ALL ON ALL FUNCTIONS IN SCHEMA integration_credentials FROM %s', kept.grantee);
    END LOOP;
END
$$;
