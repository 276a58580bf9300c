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
