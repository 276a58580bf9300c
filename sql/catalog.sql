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
