SELECT 'problem', 'this database does not have the extension', 'byHand', 'CREATE EXTENSION integration_credentials;'
WHERE NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'integration_credentials')
UNION ALL
SELECT 'problem', format('version %s is installed, and the server has %s', extversion, default_version),
       'byHand', 'ALTER EXTENSION integration_credentials UPDATE;'
FROM pg_extension
JOIN pg_available_extensions ON name = extname
WHERE extname = 'integration_credentials' AND extversion <> default_version
