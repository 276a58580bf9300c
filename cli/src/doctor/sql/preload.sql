-- The view has settings that a library defined, for every role, and no placeholders.
SELECT 'problem', 'the library is not preloaded', 'restart',
       format('shared_preload_libraries = %L', concat_ws(', ',
           nullif((SELECT coalesce(setting, '...') FROM pg_settings WHERE name = 'shared_preload_libraries'), ''),
           'integration_credentials'))
WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'integration_credentials.org_slug')
