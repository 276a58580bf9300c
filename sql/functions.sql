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

-- How long the previous value of a credential is kept from its replacement on; 0 keeps none.
CREATE FUNCTION integration_credentials.admin_set_integration_keep_previous(
        key text, keep_previous interval, actor text)
    RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'admin_set_integration_keep_previous';

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

-- The credential that the shipped sync handler wrote for the review aggregator.
CREATE FUNCTION integration_credentials.get_aggregator_credentials(key text) RETURNS text
    LANGUAGE c STABLE PARALLEL UNSAFE
    AS 'MODULE_PATHNAME', 'get_aggregator_credentials';

------------------------------------------------------------------------------- for admins, readers and auditors

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

-- The catalog with the rules and the example that an admin needs to enter a credential.
-- VOLATILE, though the function only reads: a VOLATILE function takes its snapshot after it has locked the table. A
-- STABLE one uses the snapshot of the statement, which shows an empty table after an ALTER TABLE has rewritten it.
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

-- Who has read which credential of the org, or that of one key. From the table and from the memory of this server,
-- so it is current, and on a standby it has the reads of the standby too.
CREATE FUNCTION integration_credentials.credential_reads(key text DEFAULT NULL)
    RETURNS TABLE (key text, role text, revision bigint, "lastReadAt" timestamptz, reads bigint)
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'credential_reads';

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

-------------------------------------------------------------------------------------------- for admins and operators

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

-------------------------------------------------------------------------------------------------------- for auditors

-- security_barrier keeps functions in a reader's WHERE from seeing the rows of other orgs.
CREATE VIEW integration_credentials.audit_log WITH (security_barrier) AS
    SELECT id, org_slug, actor, session_role, acting_role, action, target_type, target_id, metadata, created_at
    FROM integration_credentials.webapp_org_admin_audit_log
    WHERE org_slug = (SELECT integration_credentials.current_org());

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

-- Deletes the rows of all blocks that were sealed before a moment; their headers stay. Returns {"throughBlock",
-- "blocks", "rows"}. The call is audited.
CREATE FUNCTION integration_credentials.audit_prune(before timestamptz) RETURNS jsonb
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'audit_prune';

-- The sync handler of the shipped entry trustradius.
CREATE FUNCTION integration_credentials.sync_aggregator_credentials(org_slug text, key text, value text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'sync_aggregator_credentials';

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
