-- First of all, and in every script: whoever owns the database may have put functions and operators on the search_path that
-- fit better than Postgres' own, and would run as the superuser who installs.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;

-- Schema and tables. No role but the owner touches a table: everything goes through the functions and the view
-- in functions.sql, so there is no GRANT here and none is missing.
--
-- Orgs and integration keys are sorted by their bytes: that is fast, and no new release of a collation breaks an index.

DO $$
BEGIN
    -- Keys, values and messages cross into Rust as UTF-8.
    IF pg_catalog.current_setting('server_encoding') <> 'UTF8' THEN
        RAISE EXCEPTION 'integration_credentials needs a database with encoding UTF8'
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Create one with CREATE DATABASE ... ENCODING ''UTF8'' TEMPLATE template0.';
    END IF;
END
$$;

-- Plain CREATE, never IF NOT EXISTS: a schema that somebody made beforehand must stop the installation.
CREATE SCHEMA integration_credentials;
REVOKE ALL ON SCHEMA integration_credentials FROM PUBLIC;

-- What can be configured, and by which rules: one catalog for the whole database, shared by its orgs.
CREATE TABLE integration_credentials.integration_catalog (
    integration_key text COLLATE "C" PRIMARY KEY,
    display_name    text        NOT NULL,
    is_enabled      boolean     NOT NULL DEFAULT true,
    docs_url        text,
    example         text,                                -- the form of a value, never a real one
    rules           jsonb       NOT NULL DEFAULT '{}',   -- minLength, maxLength, prefix, pattern, schema
    -- Signatures, and whom the functions belonged to when they were registered: under the same name, another role's
    -- function is another function. NULL for the owner is one of ours.
    validator          text,                             -- f(value) returns text
    validator_owner    text,
    sync_handler       text,                             -- f(org_slug, key, value) returns void
    sync_handler_owner text,
    sync_mode       text        CHECK (sync_mode IN ('surface', 'background')),
    is_shipped      boolean     NOT NULL DEFAULT false,  -- came with the extension; see keep_catalog() in catalog.sql
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    CHECK ((sync_handler IS NULL) = (sync_mode IS NULL))
);

-- Entries that were taken out of the catalog, so that a restore does not bring back those that came with the extension.
CREATE TABLE integration_credentials.removed_integrations (
    integration_key text COLLATE "C" PRIMARY KEY
);

-- The credential of an org for an integration. Removing one clears ciphertext and keeps the row, so that the
-- revision never goes back. No CHECK or index may ever read a plaintext; there is none to read. No foreign key either:
-- pg_restore -j loads the tables of an extension in any order.
CREATE TABLE integration_credentials.configured_integrations (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    revision        bigint      NOT NULL DEFAULT 1,
    ciphertext      bytea,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, integration_key)
) WITH (fillfactor = 70);  -- room on the page, so that a rotation is a HOT update

-- What the shipped sync handler keeps for the review aggregator, encrypted like everything else.
CREATE TABLE integration_credentials.aggregator_credentials (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    ciphertext      bytea       NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, integration_key)
) WITH (fillfactor = 70);

-- The two logs. An id is unique in the whole table; the org comes first in the key, for an auditor reads by org, and so
-- that the tables can be distributed by org.
CREATE TABLE integration_credentials.webapp_org_admin_audit_log (
    id           bigint      GENERATED ALWAYS AS IDENTITY,
    org_slug     text COLLATE "C" NOT NULL,
    actor        text        NOT NULL,   -- as the caller gave it
    session_role text        NOT NULL,   -- as Postgres knows it: the role that logged in
    acting_role  text        NOT NULL,   -- and the role that called: that of SET ROLE, or the owner of a definer function
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
    metadata    jsonb            NOT NULL,   -- {"parameters": {...}}, sensitive ones as <redacted>
    created_at  timestamptz      NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (org_slug, id)
);

-- While a table is analyzed, no row version that was current when that began can be pruned: rotations make the table of
-- credentials grow. What is asked of a log needs few statistics, and 10 in place of 100 reads 3,000 rows in place of 30,000.
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

-- pg_dump carries the rows and the counters, ciphertext included; the keyring is outside and must be kept elsewhere.
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.integration_catalog', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.removed_integrations', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.configured_integrations', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.aggregator_credentials', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.webapp_org_admin_audit_log', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.webapp_org_admin_audit_log_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.tool_metering', '');
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.tool_metering_id_seq', '');
