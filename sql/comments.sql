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
