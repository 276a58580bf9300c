-- From 0.1.0 to 0.2.0.
SET LOCAL search_path = pg_catalog, pg_temp;
SET LOCAL standard_conforming_strings = on;
SET LOCAL quote_all_identifiers = off;

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

COMMENT ON TABLE integration_credentials.removed_integrations IS
    'Keys that were deleted from the catalog, so that a restore does not bring shipped entries back.';

COMMENT ON TABLE integration_credentials.configured_integrations IS
    'The credential of an org for an integration, encrypted with the keyring.';
COMMENT ON COLUMN integration_credentials.configured_integrations.revision IS
    'Grows by 1 with each set and each removal.';
COMMENT ON COLUMN integration_credentials.configured_integrations.ciphertext IS
    'Version, key id, nonce and ciphertext, bound to table, org and integration; NULL after a removal.';

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
COMMENT ON FUNCTION integration_credentials.sealing_key() IS
    'The public key that a client seals a value to, with the org, role and time to seal it for.';
COMMENT ON FUNCTION integration_credentials.admin_remove_integration_credentials(text, text) IS
    'Removes the credential of the org; the row and its revision stay.';
COMMENT ON FUNCTION integration_credentials.admin_register_integration(text, text, text, jsonb, text, text) IS
    'Adds an integration to the catalog, or replaces its name, rules, documentation link and example.';
COMMENT ON FUNCTION integration_credentials.admin_unregister_integration(text, text) IS
    'Removes an integration from the catalog, unless an org has a credential for it.';
COMMENT ON FUNCTION integration_credentials.admin_set_integration_enabled(text, boolean, text) IS
    'Enables or disables an integration for all orgs of the database.';
COMMENT ON FUNCTION integration_credentials.record_tool_failure(text, text, text, double precision) IS
    'Writes the metering row of a call that failed, for the client, whose transaction was rolled back.';
COMMENT ON FUNCTION integration_credentials.get_integration_credentials(text) IS
    'The decrypted credential of the org.';
COMMENT ON FUNCTION integration_credentials.get_integration_credentials_with_revision(text) IS
    'The decrypted credential of the org, with its revision and the time of its last change.';
COMMENT ON FUNCTION integration_credentials.get_all_integration_credentials() IS
    'All decrypted credentials of the org; an error code in place of a value that cannot be decrypted.';
COMMENT ON FUNCTION integration_credentials.get_aggregator_credentials(text) IS
    'The decrypted credential that the sync handler of the extension keeps for the review aggregator.';
COMMENT ON FUNCTION integration_credentials.list_integrations() IS
    'The catalog, with the state of each credential of the org.';
COMMENT ON FUNCTION integration_credentials.list_integrations(text[]) IS
    'The entries of the catalog with these keys, with the state of each credential of the org.';
COMMENT ON FUNCTION integration_credentials.describe_integrations() IS
    'The catalog, with the rules, example and functions of each entry.';
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

-- The read ledger.

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

-- Only the owner has rights on what is new here, whatever Postgres and the default privileges of the role that
-- updates the extension would give to others. What an operator has granted on other objects stays.
REVOKE ALL ON FUNCTION integration_credentials.credential_reads(text), integration_credentials.keep_own_reads() FROM PUBLIC;
DO $$
DECLARE
    kept record;
BEGIN
    FOR kept IN
        SELECT 'TABLE integration_credentials.credential_reads' AS object, acl.grantee::regrole::text AS grantee
        FROM pg_catalog.pg_class c, LATERAL pg_catalog.aclexplode(c.relacl) acl
        WHERE c.oid = 'integration_credentials.credential_reads'::regclass AND acl.grantee NOT IN (0::oid, c.relowner)
        UNION
        SELECT 'FUNCTION ' || p.oid::regprocedure, acl.grantee::regrole::text
        FROM pg_catalog.pg_proc p, LATERAL pg_catalog.aclexplode(p.proacl) acl
        WHERE p.oid IN ('integration_credentials.credential_reads(text)'::regprocedure,
                        'integration_credentials.keep_own_reads()'::regprocedure)
          AND acl.grantee NOT IN (0::oid, p.proowner)
    LOOP
        EXECUTE pg_catalog.format('REVOKE ALL ON %s FROM %s', kept.object, kept.grantee);
    END LOOP;
END
$$;
REVOKE ALL ON TABLE integration_credentials.credential_reads FROM PUBLIC;

COMMENT ON TABLE integration_credentials.credential_reads IS
    'The last read of each credential by each role; the server writes it a second or two after the read.';
COMMENT ON COLUMN integration_credentials.credential_reads.role_name IS
    'The role that called, from Postgres: that of SET ROLE, or the owner of a SECURITY DEFINER function.';
COMMENT ON COLUMN integration_credentials.credential_reads.revision IS
    'The revision of the last read, which may be older than that of an earlier read.';
COMMENT ON COLUMN integration_credentials.credential_reads.reads IS
    'How often the role has read the credential.';
COMMENT ON FUNCTION integration_credentials.credential_reads(text) IS
    'The last read of each credential of the org, or of one, by each role.';
COMMENT ON FUNCTION integration_credentials.keep_own_reads() IS
    'Trigger on a subscriber: leaves out the reads of the publisher.';
