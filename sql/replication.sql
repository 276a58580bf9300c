-- What a subscriber of logical replication needs, where a worker of Postgres writes the tables and not our functions. Triggers
-- do not fire there unless they are told to.

-- As in a restore, the rows that CREATE EXTENSION has made make way for those that come. The third trigger of the catalog
-- (notes_removal) stays as it is: the publisher's note of a removal comes by itself.
ALTER TABLE integration_credentials.integration_catalog ENABLE ALWAYS TRIGGER replaces_shipped;
ALTER TABLE integration_credentials.removed_integrations ENABLE ALWAYS TRIGGER removes_shipped;

-- Listeners are told to look again when a replicated change commits.
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
