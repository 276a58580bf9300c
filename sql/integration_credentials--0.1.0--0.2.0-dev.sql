-- From 0.1.0 to 0.2.0.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;

-- What is there before, to tell the new objects apart at the end of this script, and the grants on the
-- functions that this script drops and creates again.
SELECT pg_catalog.set_config('integration_credentials_upgrade.functions',
    (SELECT array_agg(p.oid)::text FROM pg_proc p WHERE p.pronamespace = 'integration_credentials'::regnamespace), true);
SELECT pg_catalog.set_config('integration_credentials_upgrade.relations',
    (SELECT array_agg(c.oid)::text FROM pg_class c WHERE c.relnamespace = 'integration_credentials'::regnamespace), true);
SELECT pg_catalog.set_config('integration_credentials_upgrade.grants',
    (SELECT coalesce(array_agg(format('GRANT EXECUTE ON FUNCTION %s TO %s%s', p.oid::regprocedure,
                CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END,
                CASE WHEN acl.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)), '{}')::text
     FROM pg_proc p CROSS JOIN LATERAL aclexplode(p.proacl) acl
     WHERE p.pronamespace = 'integration_credentials'::regnamespace AND p.proname = 'list_integrations'
         AND acl.grantee <> p.proowner), true);

---------------------------------------------------------------------------------------------------------- tables

ALTER TABLE integration_credentials.integration_catalog
    ADD keep_previous interval NOT NULL DEFAULT '1 day' CHECK (keep_previous >= '0');
ALTER TABLE integration_credentials.configured_integrations
    ADD expires_at          timestamptz,
    ADD previous_revision   bigint,
    ADD previous_ciphertext bytea,
    ADD previous_until      timestamptz,
    ADD previous_expires_at timestamptz,
    ADD pending_ciphertext  bytea,
    ADD pending_at          timestamptz,
    ADD pending_actor       text,
    ADD pending_expires_at  timestamptz;

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

------------------------------------------------------------------------------------------------------- functions

-- Options, each optional: expectedRevision (the call is refused if the row has another one; 0 for no
-- credential yet), expiresAt (RFC 3339), keepPrevious (seconds, or an interval as text), stage (true: the
-- value becomes pending), dryRun (true: everything up to the encryption, and nothing is changed).
CREATE FUNCTION integration_credentials.admin_set_integration_credentials(
        key text, value text, actor text, options jsonb)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials';

CREATE FUNCTION integration_credentials.admin_set_integration_credentials_sealed(
        key text, sealed bytea, actor text, options jsonb)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_credentials_sealed';

-- The pending value becomes the current one, and the current one becomes the previous one.
CREATE FUNCTION integration_credentials.admin_promote_integration_credentials(
        key text, actor text, expected_revision bigint DEFAULT NULL)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_promote_integration_credentials';

-- Drops the pending value.
CREATE FUNCTION integration_credentials.admin_discard_integration_credentials(key text, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_discard_integration_credentials';

-- The previous value becomes the current one under a new revision, and the current one becomes the previous
-- one. After a removal, this brings the value back.
CREATE FUNCTION integration_credentials.admin_rollback_integration_credentials(
        key text, actor text, expected_revision bigint DEFAULT NULL)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_rollback_integration_credentials';

-- Drops the previous value. Refused while a consumer may still use it, unless forced.
CREATE FUNCTION integration_credentials.admin_retire_integration_credentials(
        key text, actor text, force boolean DEFAULT false)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_retire_integration_credentials';

-- With purge => true, the previous and the pending value are removed as well. Otherwise the current value
-- becomes the previous one, and admin_rollback_integration_credentials() can bring it back.
CREATE FUNCTION integration_credentials.admin_remove_integration_credentials(key text, actor text, purge boolean)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_remove_integration_credentials';

-- The integrations of this org, or for a superuser of all orgs, that have this value. The value is sealed to
-- the key of sealing_key(), for the integration key ''.
CREATE FUNCTION integration_credentials.find_integration_credentials(sealed bytea, actor text DEFAULT NULL)
    RETURNS TABLE (org text, key text, which text, revision bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'find_integration_credentials';

-- How long the previous value of a credential is kept from its replacement on; 0 keeps none.
CREATE FUNCTION integration_credentials.admin_set_integration_keep_previous(
        key text, keep_previous interval, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_keep_previous';

-- which: current, previous (until its time is over), or pending (to test a value before it is promoted).
CREATE FUNCTION integration_credentials.get_integration_credentials(key text, which text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_integration_credentials_which';

-- The current value, and the previous one while it is kept: for a service that verifies signatures with
-- either.
CREATE FUNCTION integration_credentials.get_valid_integration_credentials(key text)
    RETURNS TABLE (value text, revision bigint, "validUntil" timestamptz)
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_valid_integration_credentials';

-- A process tells which revisions it holds, and renews its lease: held is {"key": [oldest revision that the
-- process still uses, newest revision that it knows]}, with 0 for a key that it is about to read. A lease of 0
-- ends it. The protocol is in docs/services.md.
CREATE FUNCTION integration_credentials.report_held_revisions(
        consumer uuid, name text, held jsonb, lease interval)
    RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'report_held_revisions';

-- How far each rotation is. state: steady, staged (a value is pending), rotating (a previous value is kept)
-- or removed. verdict: converged (no consumer can use an older value), waiting (behind says for whom) or
-- unknown (reason says why). consumers: how many live leases hold the key.
CREATE FUNCTION integration_credentials.rotation_status(key text DEFAULT NULL)
    RETURNS TABLE (
        key text, revision bigint, state text, "previousRevision" bigint, "previousUntil" timestamptz,
        "pendingAt" timestamptz, "pendingActor" text, verdict text, reason text, consumers bigint, behind jsonb)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'rotation_status';

-- The values of this org that cannot be decrypted, with the id of the key that each needs.
CREATE FUNCTION integration_credentials.check_credentials()
    RETURNS TABLE (key text, which text, "keyId" text, error text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'check_credentials';

-- Clears the previous values whose time is over, of all orgs, and returns how many. Rows that are being
-- changed are skipped: the change clears them.
CREATE FUNCTION integration_credentials.purge_previous() RETURNS bigint
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        WITH over AS (
            SELECT org_slug, integration_key FROM integration_credentials.configured_integrations
            WHERE previous_until <= clock_timestamp()
            FOR UPDATE SKIP LOCKED),
        cleared AS (
            UPDATE integration_credentials.configured_integrations AS c
            SET previous_revision = NULL, previous_ciphertext = NULL, previous_until = NULL, previous_expires_at = NULL
            FROM over
            WHERE c.org_slug = over.org_slug AND c.integration_key = over.integration_key
            RETURNING 1)
        SELECT count(*) FROM cleared;
    END;

DROP FUNCTION integration_credentials.list_integrations(), integration_credentials.list_integrations(text[]);

-- All entries of the catalog in the order of their keys, each with the state of the org's credential. STABLE, because the
-- library takes a snapshot after it has locked the tables.
CREATE FUNCTION integration_credentials.list_integrations()
    RETURNS TABLE (
        key              text,
        "displayName"    text,
        "isEnabled"      boolean,
        "isConfigured"   boolean,       -- this org has, or had, a credential
        "hasCredentials" boolean,       -- this org has a credential now
        revision         bigint,        -- 0 where this org never had a credential
        "updatedAt"      timestamptz,
        "expiresAt"      timestamptz,
        "hasPrevious"    boolean,       -- a previous value is kept now
        "hasPending"     boolean)
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'list_all_integrations';

-- The entries with these keys. A key that the catalog does not have yields no row.
CREATE FUNCTION integration_credentials.list_integrations(keys text[])
    RETURNS TABLE (
        key text, "displayName" text, "isEnabled" boolean, "isConfigured" boolean, "hasCredentials" boolean,
        revision bigint, "updatedAt" timestamptz, "expiresAt" timestamptz, "hasPrevious" boolean,
        "hasPending" boolean)
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'list_integrations_of';

-- Who has read which credential of the org, or that of one key. From the table and from the memory of this server,
-- so it is current, and on a standby it has the reads of the standby too.
CREATE FUNCTION integration_credentials.credential_reads(key text DEFAULT NULL)
    RETURNS TABLE (key text, role text, revision bigint, "lastReadAt" timestamptz, reads bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'credential_reads';

-- A subscriber records its own reads. Those of the publisher are not its own, and their rows would clash.
CREATE FUNCTION integration_credentials.keep_own_reads() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN NULL;
END
$$;

CREATE TRIGGER keeps_own_reads BEFORE INSERT OR UPDATE OR DELETE ON integration_credentials.credential_reads
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.keep_own_reads();
ALTER TABLE integration_credentials.credential_reads ENABLE REPLICA TRIGGER keeps_own_reads;

----------------------------------------------------------------------------------- for operators, about keys

-- The keys that the keyring of this server has, and which of them encrypts. The fingerprint differs between two
-- keys of one id; like the public sealing key, of which it is a part, it reveals no key. Works on a standby.
CREATE FUNCTION integration_credentials.keyring_status()
    RETURNS TABLE ("keyId" text, fingerprint text, writes boolean)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'keyring_status';

-- How many ciphertexts of the database need each key, over all orgs. The key id is NULL for a ciphertext whose
-- form is unknown. substr() reads the head of a ciphertext without the rest.
CREATE FUNCTION integration_credentials.key_usage()
    RETURNS TABLE ("keyId" text, current bigint, previous bigint, pending bigint, aggregator bigint)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT k.key_id,
               count(*) FILTER (WHERE k.which = 'current'),
               count(*) FILTER (WHERE k.which = 'previous'),
               count(*) FILTER (WHERE k.which = 'pending'),
               count(*) FILTER (WHERE k.which = 'aggregator')
        FROM (
            SELECT h.which,
                   CASE WHEN octet_length(h.head) < 3 THEN NULL
                        WHEN get_byte(h.head, 0) <> 1 THEN NULL
                        ELSE encode(substr(h.head, 3, get_byte(h.head, 1)), 'escape') END AS key_id
            FROM (
                SELECT v.which, v.head
                FROM integration_credentials.configured_integrations c
                CROSS JOIN LATERAL (VALUES
                    ('current', substr(c.ciphertext, 1, 66)),
                    ('previous', substr(c.previous_ciphertext, 1, 66)),
                    ('pending', substr(c.pending_ciphertext, 1, 66))) v (which, head)
                WHERE v.head IS NOT NULL
                UNION ALL
                SELECT 'aggregator' AS which, substr(a.ciphertext, 1, 66) AS head
                FROM integration_credentials.aggregator_credentials a) h) k
        GROUP BY k.key_id
        ORDER BY k.key_id;
    END;

-- The ciphertexts of all orgs that this server cannot decrypt. Works on a standby.
CREATE FUNCTION integration_credentials.check_all_credentials()
    RETURNS TABLE (org text, key text, which text, "keyId" text, error text)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'check_all_credentials';

-- One transaction of the procedure below. NULL while there is more to do, then the result.
CREATE FUNCTION integration_credentials.reencrypt_batch(batch integer, is_first boolean) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'reencrypt_batch';

-- Reencrypts, with the key that writes, every ciphertext of another key. Commits after each batch of rows. A
-- procedure that commits can have neither SECURITY DEFINER nor a pinned search_path, so its body has no name
-- and no operator that a search_path could resolve.
CREATE PROCEDURE integration_credentials.reencrypt(batch integer DEFAULT 1000, INOUT result jsonb DEFAULT NULL)
    LANGUAGE plpgsql
AS $$
DECLARE
    is_first boolean := true;
BEGIN
    -- In a transaction block, this fails before anything is done.
    COMMIT;
    LOOP
        SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE;
        result := integration_credentials.reencrypt_batch(batch, is_first);
        COMMIT;
        EXIT WHEN result IS NOT NULL;
        is_first := false;
    END LOOP;
END
$$;

-- The runs of reencrypt() in all databases of the cluster.
CREATE FUNCTION integration_credentials.reencrypt_runs()
    RETURNS TABLE (pid integer, datid oid, key_id text, total bigint, done bigint, unreadable bigint,
                   started_at timestamptz)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'reencrypt_runs';

CREATE VIEW integration_credentials.reencrypt_progress AS
    SELECT r.pid, d.datname, r.key_id, r.total, r.done, r.unreadable, r.started_at
    FROM integration_credentials.reencrypt_runs() r
    LEFT JOIN pg_catalog.pg_database d ON d.oid = r.datid;

----------------------------------------------------------------------------------- the proof of the audit log

-- Rows from before have no MAC. The first blocks are of these rows, and say so; see docs/audit.md.
ALTER TABLE integration_credentials.webapp_org_admin_audit_log ADD mac bytea;
ALTER TABLE integration_credentials.webapp_org_admin_audit_log ALTER mac SET STATISTICS 10;
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
SELECT pg_catalog.pg_extension_config_dump('integration_credentials.audit_blocks', '');

-- Counts the sessions that have written a row here. No dump has it, so that a restored database is known by it.
CREATE SEQUENCE integration_credentials.audit_sessions;

-- The newest block. Kept elsewhere, it is a head: `intcred audit verify --head` finds what was rewritten since.
CREATE FUNCTION integration_credentials.audit_head()
    RETURNS TABLE (number bigint, header text, signature bytea, endorsement bytea)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT b.number, b.header, b.signature, b.endorsement
        FROM integration_credentials.audit_blocks b ORDER BY b.number DESC LIMIT 1;
    END;

-- Asks for the worker that seals. After a change it comes unasked; the rows that a restore brings wait for it.
CREATE FUNCTION integration_credentials.audit_seal() RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'audit_seal';

-- A row of this org with its block, from which `intcred audit prove` makes a proof. No row until the row is in
-- a block.
CREATE FUNCTION integration_credentials.audit_proof(row_id bigint)
    RETURNS TABLE (
        id bigint, org_slug text, actor text, session_role text, acting_role text, action text, target_type text,
        target_id text, metadata jsonb, created_at timestamptz, mac bytea,
        header text, signature bytea, leaves bytea)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT l.id, l.org_slug, l.actor, l.session_role, l.acting_role, l.action, l.target_type,
               l.target_id, l.metadata, l.created_at, l.mac, b.header, b.signature, b.leaves
        FROM integration_credentials.webapp_org_admin_audit_log l
        JOIN integration_credentials.audit_blocks b
            ON l.id >= b.first_id AND l.id <= b.last_id AND l.id = ANY (b.ids)
        WHERE l.org_slug = (SELECT integration_credentials.current_org()) AND l.id = audit_proof.row_id;
    END;

-- The rows of this org in the `blocks` blocks after block `after`, in their order.
CREATE FUNCTION integration_credentials.audit_sealed("after" bigint, blocks integer)
    RETURNS TABLE (
        block bigint, id bigint, org_slug text, actor text, session_role text, acting_role text, action text,
        target_type text, target_id text, metadata jsonb, created_at timestamptz)
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    BEGIN ATOMIC
        SELECT b.number, l.id, l.org_slug, l.actor, l.session_role, l.acting_role, l.action,
               l.target_type, l.target_id, l.metadata, l.created_at
        FROM integration_credentials.audit_blocks b
        CROSS JOIN LATERAL unnest(b.ids) AS i (id)
        JOIN integration_credentials.webapp_org_admin_audit_log l ON l.id = i.id
        WHERE b.number > audit_sealed."after" AND b.number <= audit_sealed."after" + audit_sealed.blocks
          AND l.org_slug = (SELECT integration_credentials.current_org())
        ORDER BY b.number, l.id;
    END;

-- Deletes the rows of all blocks that were sealed before a moment; their headers stay. Returns {"throughBlock",
-- "blocks", "rows"}. The call is audited.
CREATE FUNCTION integration_credentials.audit_prune(before timestamptz) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'audit_prune';

---------------------------------------------------------------------------------------------------------- grants

-- Only the owner has a privilege on a new object. Postgres lets PUBLIC execute a new function, and the default
-- privileges of the role that upgrades may grant more.
DO $$
DECLARE
    new record;
    kept text;
BEGIN
    FOR new IN
        SELECT DISTINCT kind, object, CASE acl.grantee WHEN 0 THEN 'PUBLIC' ELSE acl.grantee::regrole::text END AS grantee
        FROM (
            SELECT 'ROUTINE' AS kind, p.oid::regprocedure::text AS object, p.proowner AS owner,
                   coalesce(p.proacl, acldefault('f', p.proowner)) AS acl
            FROM pg_proc p
            WHERE p.pronamespace = 'integration_credentials'::regnamespace
                AND p.oid <> ALL (pg_catalog.current_setting('integration_credentials_upgrade.functions')::oid[])
            UNION ALL
            SELECT 'TABLE', c.oid::regclass::text, c.relowner, c.relacl
            FROM pg_class c
            WHERE c.relnamespace = 'integration_credentials'::regnamespace AND c.relkind IN ('r', 'v')
                AND c.oid <> ALL (pg_catalog.current_setting('integration_credentials_upgrade.relations')::oid[])
        ) object CROSS JOIN LATERAL aclexplode(object.acl) acl
        WHERE acl.grantee <> object.owner
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s %s FROM %s', new.kind, new.object, new.grantee);
    END LOOP;
    FOREACH kept IN ARRAY pg_catalog.current_setting('integration_credentials_upgrade.grants')::text[]
    LOOP
        EXECUTE kept;
    END LOOP;
END
$$;

-- Who watches the server may watch a run of reencrypt().
GRANT USAGE ON SCHEMA integration_credentials TO pg_monitor;
GRANT EXECUTE ON FUNCTION integration_credentials.reencrypt_runs() TO pg_monitor;
GRANT SELECT ON integration_credentials.reencrypt_progress TO pg_monitor;

-- What each object is, for \dn+, \dt+, \d+ and \df+.

COMMENT ON SCHEMA integration_credentials IS
    'Third-party credentials per org: validated, encrypted, audited, and announced by NOTIFY.';

------------------------------------------------------------------------------------------------- tables and view

COMMENT ON TABLE integration_credentials.integration_catalog IS
    'The integrations that can be configured, and the rules of their values; all orgs of the database share it.';
COMMENT ON COLUMN integration_credentials.integration_catalog.is_enabled IS
    'While false, the credentials of the integration can neither be set nor read; they can be removed.';
COMMENT ON COLUMN integration_credentials.integration_catalog.example IS
    'The form of a value, for an admin to look at; never a real value.';
COMMENT ON COLUMN integration_credentials.integration_catalog.rules IS
    'JSON object with minLength, maxLength, prefix, pattern and schema, each optional.';
COMMENT ON COLUMN integration_credentials.integration_catalog.validator IS
    'Signature of a function f(value text) that returns NULL or the reason of a refusal; NULL for none.';
COMMENT ON COLUMN integration_credentials.integration_catalog.validator_owner IS
    'Owner of the validator at registration; NULL for a function of the extension.';
COMMENT ON COLUMN integration_credentials.integration_catalog.sync_handler IS
    'Signature of a function f(org_slug text, key text, value text) that runs after each set; NULL for none.';
COMMENT ON COLUMN integration_credentials.integration_catalog.sync_handler_owner IS
    'Owner of the sync handler at registration; NULL for a function of the extension.';
COMMENT ON COLUMN integration_credentials.integration_catalog.sync_mode IS
    'surface: the result of the call shows a failure of the sync handler; background: the server log does.';
COMMENT ON COLUMN integration_credentials.integration_catalog.is_shipped IS
    'Whether CREATE EXTENSION inserted the row; a row of the same key from a restore or a publisher replaces it.';
COMMENT ON COLUMN integration_credentials.integration_catalog.keep_previous IS
    'How long the previous value of a credential is kept from its replacement on; 0 keeps none.';

COMMENT ON TABLE integration_credentials.removed_integrations IS
    'Keys that were deleted from the catalog, so that a restore does not bring shipped entries back.';

COMMENT ON TABLE integration_credentials.configured_integrations IS
    'The credential of an org for an integration: current, previous and pending value, encrypted with the keyring.';
COMMENT ON COLUMN integration_credentials.configured_integrations.revision IS
    'Grows by 1 with each set, promotion, rollback and removal; 0 while only a pending value was stored.';
COMMENT ON COLUMN integration_credentials.configured_integrations.ciphertext IS
    'Version, key id, nonce and ciphertext, bound to table, org and integration; NULL after a removal.';
COMMENT ON COLUMN integration_credentials.configured_integrations.expires_at IS
    'When the current value expires at the vendor, as the caller says; nothing happens then.';
COMMENT ON COLUMN integration_credentials.configured_integrations.previous_revision IS
    'The revision of the previous value.';
COMMENT ON COLUMN integration_credentials.configured_integrations.previous_ciphertext IS
    'The value that was current before, encrypted likewise; NULL if none is kept.';
COMMENT ON COLUMN integration_credentials.configured_integrations.previous_until IS
    'Until when the previous value can be read and rolled back to.';
COMMENT ON COLUMN integration_credentials.configured_integrations.previous_expires_at IS
    'When the previous value expires at the vendor.';
COMMENT ON COLUMN integration_credentials.configured_integrations.pending_ciphertext IS
    'The value that was staged, encrypted likewise; a promotion makes it the current one.';
COMMENT ON COLUMN integration_credentials.configured_integrations.pending_at IS
    'When the pending value was staged.';
COMMENT ON COLUMN integration_credentials.configured_integrations.pending_actor IS
    'Who staged the pending value, as the caller says; not verified.';
COMMENT ON COLUMN integration_credentials.configured_integrations.pending_expires_at IS
    'When the pending value expires at the vendor.';

COMMENT ON TABLE integration_credentials.consumers IS
    'The processes that hold credentials, each with a lease; unlogged, and not dumped.';
COMMENT ON COLUMN integration_credentials.consumers.role_name IS
    'The role that reports, from Postgres.';
COMMENT ON COLUMN integration_credentials.consumers.consumer IS
    'The id that the process has chosen for itself.';
COMMENT ON COLUMN integration_credentials.consumers.name IS
    'The name that the process gives itself; not verified.';
COMMENT ON COLUMN integration_credentials.consumers.held IS
    'JSON object: for each key, the oldest revision that the process still uses, and the newest that it knows.';
COMMENT ON COLUMN integration_credentials.consumers.lease_until IS
    'Until when the process may use what it holds, unless it renews the lease.';

COMMENT ON TABLE integration_credentials.lease_epoch IS
    'Since when the leases are complete: one row, which a crash deletes together with the leases; unlogged.';

COMMENT ON TABLE integration_credentials.aggregator_credentials IS
    'Credentials that the sync handler of the extension keeps for the review aggregator, encrypted.';
COMMENT ON COLUMN integration_credentials.aggregator_credentials.ciphertext IS
    'Version, key id, nonce and ciphertext, bound to table, org and integration.';

COMMENT ON TABLE integration_credentials.webapp_org_admin_audit_log IS
    'A row for each change that a call made to a credential or the catalog, in the same transaction.';
COMMENT ON COLUMN integration_credentials.webapp_org_admin_audit_log.actor IS
    'The person or service behind the change, as the caller names it; not verified.';
COMMENT ON COLUMN integration_credentials.webapp_org_admin_audit_log.session_role IS
    'The role that logged in, from Postgres.';
COMMENT ON COLUMN integration_credentials.webapp_org_admin_audit_log.acting_role IS
    'The role that called, from Postgres: that of SET ROLE, or the owner of a SECURITY DEFINER function.';
COMMENT ON COLUMN integration_credentials.webapp_org_admin_audit_log.target_id IS
    'The integration key.';

COMMENT ON COLUMN integration_credentials.webapp_org_admin_audit_log.mac IS
    'Version, key id and MAC over all other columns; NULL for a row from before 0.2.0, or written without a keyring.';

COMMENT ON TABLE integration_credentials.audit_blocks IS
    'Signed blocks of audit rows, each with the hash of the block before.';
COMMENT ON COLUMN integration_credentials.audit_blocks.header IS
    'The text that is signed: chain, number, time, rows, ids, root, the block before, and the key.';
COMMENT ON COLUMN integration_credentials.audit_blocks.endorsement IS
    'The signature of the header by the key of the block before, where that is another.';
COMMENT ON COLUMN integration_credentials.audit_blocks.ids IS
    'The ids of the rows, in the order of org and id; NULL after the block was pruned.';
COMMENT ON COLUMN integration_credentials.audit_blocks.leaves IS
    'The leaves of the Merkle tree, 32 bytes for each id; NULL after the block was pruned.';
COMMENT ON COLUMN integration_credentials.audit_blocks.unsettled IS
    'In the newest block: the first and the last id of each range for which a row may still come.';
COMMENT ON SEQUENCE integration_credentials.audit_sessions IS
    'Counts the sessions that have written an audit row in this database. Not dumped.';

COMMENT ON TABLE integration_credentials.tool_metering IS
    'A row for each call of an admin_* function, with its outcome and duration.';
COMMENT ON COLUMN integration_credentials.tool_metering.tool_key IS
    'The name of the function.';
COMMENT ON COLUMN integration_credentials.tool_metering.actor IS
    'The person or service behind the call, as the caller names it; not verified.';
COMMENT ON COLUMN integration_credentials.tool_metering.outcome IS
    'ok, or the code of the error, such as invalid_credentials.';
COMMENT ON COLUMN integration_credentials.tool_metering.metadata IS
    'The parameters of the call; sensitive ones are <redacted>.';

COMMENT ON TABLE integration_credentials.credential_reads IS
    'The last read of each credential by each role; the server writes it a second or two after the read.';
COMMENT ON COLUMN integration_credentials.credential_reads.role_name IS
    'The role that called, from Postgres: that of SET ROLE, or the owner of a SECURITY DEFINER function.';
COMMENT ON COLUMN integration_credentials.credential_reads.revision IS
    'The revision of the last read, which may be older than that of an earlier read.';
COMMENT ON COLUMN integration_credentials.credential_reads.reads IS
    'How often the role has read the credential.';

COMMENT ON VIEW integration_credentials.audit_log IS
    'The audit log of the org of this session.';
COMMENT ON COLUMN integration_credentials.audit_log.actor IS
    'The person or service behind the change, as the caller names it; not verified.';
COMMENT ON COLUMN integration_credentials.audit_log.session_role IS
    'The role that logged in, from Postgres.';
COMMENT ON COLUMN integration_credentials.audit_log.acting_role IS
    'The role that called, from Postgres: that of SET ROLE, or the owner of a SECURITY DEFINER function.';
COMMENT ON COLUMN integration_credentials.audit_log.target_id IS
    'The integration key.';

------------------------------------------------------------------------------------------------------- functions

COMMENT ON FUNCTION integration_credentials.current_org() IS
    'The org of this session: the setting integration_credentials.org_slug, or else the name of the database.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_credentials(text, text, text) IS
    'Validates, encrypts and saves a credential of the org.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_credentials_sealed(text, bytea, text) IS
    'Saves a credential whose value the client has sealed to the key of sealing_key().';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_credentials(text, text, text, jsonb) IS
    'The same with options: expectedRevision, expiresAt, keepPrevious, stage and dryRun.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_credentials_sealed(text, bytea, text, jsonb) IS
    'The same with options: expectedRevision, expiresAt, keepPrevious, stage and dryRun.';
COMMENT ON FUNCTION integration_credentials.admin_promote_integration_credentials(text, text, bigint) IS
    'Makes the pending value the current one, and the current value the previous one.';
COMMENT ON FUNCTION integration_credentials.admin_discard_integration_credentials(text, text) IS
    'Drops the pending value.';
COMMENT ON FUNCTION integration_credentials.admin_rollback_integration_credentials(text, text, bigint) IS
    'Makes the previous value the current one, under a new revision.';
COMMENT ON FUNCTION integration_credentials.admin_retire_integration_credentials(text, text, boolean) IS
    'Drops the previous value, unless a consumer may still use it.';
COMMENT ON FUNCTION integration_credentials.sealing_key() IS
    'The public key that a client seals a value to, with the org, role and time to seal it for.';
COMMENT ON FUNCTION integration_credentials.admin_remove_integration_credentials(text, text) IS
    'Removes the credential of the org; the row and its revision stay.';
COMMENT ON FUNCTION integration_credentials.admin_remove_integration_credentials(text, text, boolean) IS
    'Removes the credential of the org and, if purged, the previous value as well.';
COMMENT ON FUNCTION integration_credentials.find_integration_credentials(bytea, text) IS
    'The integrations that have this sealed value as current, previous or pending one.';
COMMENT ON FUNCTION integration_credentials.admin_register_integration(text, text, text, jsonb, text, text) IS
    'Adds an integration to the catalog, or replaces its name, rules, documentation link and example.';
COMMENT ON FUNCTION integration_credentials.admin_unregister_integration(text, text) IS
    'Removes an integration from the catalog, unless an org has a credential for it.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_enabled(text, boolean, text) IS
    'Enables or disables an integration for all orgs of the database.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_keep_previous(text, interval, text) IS
    'Sets how long the previous value of an integration is kept.';
COMMENT ON FUNCTION integration_credentials.record_tool_failure(text, text, text, double precision) IS
    'Writes the metering row of a call that failed, for the client, whose transaction was rolled back.';
COMMENT ON FUNCTION integration_credentials.get_integration_credentials(text) IS
    'The decrypted credential of the org.';
COMMENT ON FUNCTION integration_credentials.get_integration_credentials_with_revision(text) IS
    'The decrypted credential of the org, with its revision and the time of its last change.';
COMMENT ON FUNCTION integration_credentials.get_all_integration_credentials() IS
    'All decrypted credentials of the org; an error code in place of a value that cannot be decrypted.';
COMMENT ON FUNCTION integration_credentials.get_integration_credentials(text, text) IS
    'The decrypted current, previous or pending value of the org.';
COMMENT ON FUNCTION integration_credentials.get_valid_integration_credentials(text) IS
    'The decrypted current value of the org and, while it is kept, the previous one.';
COMMENT ON FUNCTION integration_credentials.report_held_revisions(uuid, text, jsonb, interval) IS
    'Renews the lease of a process that holds credentials, with the revisions that it holds.';
COMMENT ON FUNCTION integration_credentials.get_aggregator_credentials(text) IS
    'The decrypted credential that the sync handler of the extension keeps for the review aggregator.';
COMMENT ON FUNCTION integration_credentials.list_integrations() IS
    'The catalog, with the state of each credential of the org.';
COMMENT ON FUNCTION integration_credentials.list_integrations(text[]) IS
    'The entries of the catalog with these keys, with the state of each credential of the org.';
COMMENT ON FUNCTION integration_credentials.describe_integrations() IS
    'The catalog, with the rules, example and functions of each entry.';
COMMENT ON FUNCTION integration_credentials.audit_head() IS
    'The newest block of the audit log, to be kept elsewhere.';
COMMENT ON FUNCTION integration_credentials.audit_seal() IS
    'Asks for the worker that seals the audit log.';
COMMENT ON FUNCTION integration_credentials.audit_proof(bigint) IS
    'An audit row of the org with its block, for a proof.';
COMMENT ON FUNCTION integration_credentials.audit_sealed(bigint, integer) IS
    'The audit rows of the org in the blocks after a block.';
COMMENT ON FUNCTION integration_credentials.audit_prune(timestamptz) IS
    'Deletes the audit rows of the blocks that were sealed before a moment; for superusers.';
COMMENT ON FUNCTION integration_credentials.credential_reads(text) IS
    'The last read of each credential of the org, or of one, by each role.';
COMMENT ON FUNCTION integration_credentials.rotation_status(text) IS
    'How far each rotation of the org is, and which consumers are behind.';
COMMENT ON FUNCTION integration_credentials.check_credentials() IS
    'The values of the org that cannot be decrypted, with the key that each needs.';
COMMENT ON FUNCTION integration_credentials.purge_previous() IS
    'Clears the previous values whose time is over, in all orgs; for operators.';
COMMENT ON FUNCTION integration_credentials.register_validator(text, text) IS
    'Sets the validator of an integration by its signature; NULL removes it; for superusers.';
COMMENT ON FUNCTION integration_credentials.register_sync_handler(text, text, text) IS
    'Sets the sync handler of an integration by its signature; NULL removes it; for superusers.';
COMMENT ON FUNCTION integration_credentials.sync_aggregator_credentials(text, text, text) IS
    'Sync handler of the extension: encrypts a credential for the review aggregator.';
COMMENT ON FUNCTION integration_credentials.keep_catalog() IS
    'Trigger: keeps removals, and lets rows of a restore or a publisher replace shipped entries.';
COMMENT ON FUNCTION integration_credentials.catalog_changed() IS
    'Trigger: invalidates the cached catalog of all sessions.';
COMMENT ON FUNCTION integration_credentials.announce_replicated() IS
    'Trigger on a subscriber: announces a resync when a replicated change commits.';
COMMENT ON FUNCTION integration_credentials.keep_own_reads() IS
    'Trigger on a subscriber: leaves out the reads of the publisher.';

COMMENT ON FUNCTION integration_credentials.keyring_status() IS
    'The keys that the keyring of this server has, and which of them encrypts; for superusers.';
COMMENT ON FUNCTION integration_credentials.key_usage() IS
    'How many ciphertexts of the database need each key of the keyring, over all orgs.';
COMMENT ON FUNCTION integration_credentials.check_all_credentials() IS
    'The ciphertexts of all orgs that this server cannot decrypt, and why; for superusers.';
COMMENT ON FUNCTION integration_credentials.reencrypt_batch(integer, boolean) IS
    'One transaction of the procedure reencrypt; for superusers.';
COMMENT ON PROCEDURE integration_credentials.reencrypt(integer, jsonb) IS
    'Reencrypts, with the key that writes, every ciphertext of another key, in batches; for superusers.';
COMMENT ON FUNCTION integration_credentials.reencrypt_runs() IS
    'The runs of reencrypt in all databases of the cluster, by the oid of the database.';
COMMENT ON VIEW integration_credentials.reencrypt_progress IS
    'How far the runs of reencrypt are, in all databases of the cluster; for pg_monitor.';
COMMENT ON COLUMN integration_credentials.reencrypt_progress.key_id IS
    'The key that the run reencrypts with.';
COMMENT ON COLUMN integration_credentials.reencrypt_progress.total IS
    'The rows that had a ciphertext of another key when the run began.';
COMMENT ON COLUMN integration_credentials.reencrypt_progress.done IS
    'The rows that the run has reencrypted.';
COMMENT ON COLUMN integration_credentials.reencrypt_progress.unreadable IS
    'The ciphertexts that the run has found and cannot decrypt.';
