-- The view has settings that a library defined, for every role, and no placeholders.
SELECT 'problem', 'the library is not preloaded', 'restart',
       format('shared_preload_libraries = %L', concat_ws(', ',
           nullif((SELECT coalesce(setting, '...') FROM pg_settings WHERE name = 'shared_preload_libraries'), ''),
           'integration_credentials'))
WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'integration_credentials.org_slug')
UNION ALL
-- The library shows its version since 0.2.0.
SELECT 'problem', format('the server runs version %s of the library, and %s is installed', running, default_version),
       'byHand', 'Restart the server.'
FROM pg_available_extensions,
     coalesce(current_setting('integration_credentials.version', true), '0.1.0') AS running
WHERE name = 'integration_credentials' AND running <> default_version
  AND EXISTS (SELECT FROM pg_settings WHERE pg_settings.name = 'integration_credentials.org_slug')
