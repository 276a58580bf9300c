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
    keep_previous   interval    NOT NULL DEFAULT '1 day' CHECK (keep_previous >= '0'),
    CHECK ((sync_handler IS NULL) = (sync_mode IS NULL))
);

-- Keys that were deleted from the catalog, so that a restore does not bring shipped entries back.
CREATE TABLE integration_credentials.removed_integrations (
    integration_key text COLLATE "C" PRIMARY KEY
);

-- The credential of an org for an integration: the current value, at most one previous value, which is kept
-- for a time, and at most one pending value, which becomes the current one when it is promoted. A removal
-- keeps the row, so that the revision never goes back; revision 0 marks a row that has had no current value
-- yet. There is no plaintext that a CHECK or an index could read. A foreign key would break pg_restore -j,
-- which loads the tables of an extension in any order.
CREATE TABLE integration_credentials.configured_integrations (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    revision        bigint      NOT NULL DEFAULT 1,
    ciphertext      bytea,
    created_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    updated_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    expires_at          timestamptz,                     -- the vendor's date; nothing happens then
    previous_revision   bigint,
    previous_ciphertext bytea,
    previous_until      timestamptz,                     -- from then on, as good as gone
    previous_expires_at timestamptz,
    pending_ciphertext  bytea,
    pending_at          timestamptz,
    pending_actor       text,
    pending_expires_at  timestamptz,
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

-- The processes that hold credentials, each with a lease. Unlogged, because a process renews its lease every
-- few seconds. A crash empties the table, and a promoted standby starts with an empty one.
CREATE UNLOGGED TABLE integration_credentials.consumers (
    org_slug    text COLLATE "C" NOT NULL,
    role_name   text COLLATE "C" NOT NULL,   -- the role that reports, so that no role speaks for another
    consumer    uuid        NOT NULL,
    name        text        NOT NULL,
    held        jsonb       NOT NULL,        -- {"key": [oldest revision held, newest revision known]}
    reported_at timestamptz NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (org_slug, role_name, consumer)
) WITH (fillfactor = 50);

-- One row: since when leases are complete. A crash deletes the row, and with it the leases.
CREATE UNLOGGED TABLE integration_credentials.lease_epoch (
    is_the_row boolean     PRIMARY KEY DEFAULT true CHECK (is_the_row),
    began_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

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
    mac          bytea,                  -- version, key id and MAC over the other columns; see docs/audit.md
    PRIMARY KEY (org_slug, id)
);
-- Blocks of rows are found by id, whatever their orgs.
CREATE INDEX webapp_org_admin_audit_log_id ON integration_credentials.webapp_org_admin_audit_log (id);

-- The signed blocks of audit rows. docs/audit.md has the form of a header. A block that was pruned has neither
-- ids nor leaves. The newest block alone has the ids for which a row may still come: the first and the last id
-- of each range. A restore is not complete without that block.
CREATE TABLE integration_credentials.audit_blocks (
    number      bigint PRIMARY KEY,
    header      text COLLATE "C" NOT NULL,
    signature   bytea          NOT NULL,
    endorsement bytea,                    -- by the key of the block before, where that is another
    first_id    bigint         NOT NULL,
    last_id     bigint         NOT NULL,
    ids         bigint[],                 -- in the order of org and id
    leaves      bytea,                    -- 32 bytes for each id
    unsettled   bigint[]
);
-- Hashes do not compress, and compressing the ids takes longer than writing them. Nobody searches in these columns.
ALTER TABLE integration_credentials.audit_blocks
    ALTER ids SET STORAGE EXTERNAL, ALTER leaves SET STORAGE EXTERNAL,
    ALTER header SET STATISTICS 0, ALTER signature SET STATISTICS 0, ALTER endorsement SET STATISTICS 0,
    ALTER ids    SET STATISTICS 0, ALTER leaves    SET STATISTICS 0, ALTER unsettled   SET STATISTICS 0;

-- Counts the sessions that have written a row here. No dump has it, so that a restored database is known by it.
CREATE SEQUENCE integration_credentials.audit_sessions;

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

-- The last read of each credential by each role, which the library writes every second or so; see
-- extension/src/reads. Not dumped: it says nothing about the server that a dump is restored to.
CREATE TABLE integration_credentials.credential_reads (
    org_slug        text COLLATE "C" NOT NULL,
    integration_key text COLLATE "C" NOT NULL,
    role_name       text COLLATE "C" NOT NULL,   -- the role that called
    revision        bigint      NOT NULL,        -- the one that was read last
    last_read_at    timestamptz NOT NULL,
    reads           bigint      NOT NULL,
    PRIMARY KEY (org_slug, integration_key, role_name)
) WITH (fillfactor = 70);

-- ANALYZE of a log holds a snapshot, during which no old row version of a credential can be pruned, so
-- rotations make that table grow. Queries of a log need few statistics: a target of 10 samples 3,000 rows,
-- and the default of 100 samples 30,000.
ALTER TABLE integration_credentials.webapp_org_admin_audit_log
    ALTER id          SET STATISTICS 10, ALTER org_slug     SET STATISTICS 10,
    ALTER actor       SET STATISTICS 10, ALTER session_role SET STATISTICS 10,
    ALTER acting_role SET STATISTICS 10, ALTER action       SET STATISTICS 10,
    ALTER target_type SET STATISTICS 10, ALTER target_id    SET STATISTICS 10,
    ALTER metadata    SET STATISTICS 10, ALTER created_at   SET STATISTICS 10,
    ALTER mac         SET STATISTICS 10;
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
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.audit_blocks', '');
