SELECT 'problem', format('org_slug is not set, so the org is the name of the database, %I', current_database()), 'sql',
       format('ALTER DATABASE %I SET integration_credentials.org_slug = %L;', current_database(), current_database())
WHERE NOT EXISTS (
        SELECT FROM pg_db_role_setting, unnest(setconfig) AS entry
        WHERE setrole = 0
          AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
          AND entry ~ '^integration_credentials\.org_slug=.')
  AND NOT EXISTS (
        SELECT FROM pg_settings
        WHERE name = 'integration_credentials.org_slug' AND setting <> ''
          AND source IN ('configuration file', 'command line'))
