-- A setting that a library has defined is in this view for every role; a name that somebody made up is not.
SELECT 'problem', 'the library is not preloaded', 'restart',
       format('shared_preload_libraries = %L', concat_ws(', ',
           nullif((SELECT coalesce(setting, '...') FROM pg_settings WHERE name = 'shared_preload_libraries'), ''),
           'integration_credentials'))
WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'integration_credentials.org_slug')
