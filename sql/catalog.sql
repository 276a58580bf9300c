-- The integrations that every installation starts with. Rules are no stricter than what each vendor documents; an
-- operator may change or remove any of them. The examples show the form of a value and open nothing.

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

    -- The OAuth 2.0 client credentials flow: a connected app's id and secret, and the domain to ask for a token.
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

    -- The vendor documents no form: a key is text without blanks.
    (true, 'trustradius', 'TrustRadius', 'https://apidocs.trustradius.com/',
     'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx',
     '{"pattern": "[!-~]+", "minLength": 8, "maxLength": 1024}',
     'integration_credentials.sync_aggregator_credentials(text, text, text)', 'surface');

-- A restore runs CREATE EXTENSION, and then loads the rows of the dump. What the extension shipped makes way: for the
-- row of the same key, and for the note that the entry was removed. So the catalog comes back as it was, with edited,
-- added and removed entries alike, in whatever order its tables are loaded.
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

-- Sessions remember which entries are enabled. Whoever changes the catalog makes them look again: by hand, in a restore
-- or by replication, hence ALWAYS and by row.
CREATE FUNCTION integration_credentials.catalog_changed() RETURNS trigger
    LANGUAGE c
    SET search_path = pg_catalog, pg_temp
    AS 'MODULE_PATHNAME', 'catalog_changed';
CREATE TRIGGER tells_sessions AFTER INSERT OR UPDATE OR DELETE ON integration_credentials.integration_catalog
    FOR EACH ROW EXECUTE FUNCTION integration_credentials.catalog_changed();
CREATE TRIGGER tells_sessions_of_truncate AFTER TRUNCATE ON integration_credentials.integration_catalog
    FOR EACH STATEMENT EXECUTE FUNCTION integration_credentials.catalog_changed();
ALTER TABLE integration_credentials.integration_catalog
    ENABLE ALWAYS TRIGGER tells_sessions, ENABLE ALWAYS TRIGGER tells_sessions_of_truncate;
