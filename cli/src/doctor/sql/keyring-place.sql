SELECT 'problem', 'the keyring lies in the data directory, and so in every base backup', 'byHand',
       'Move the file elsewhere, say so in integration_credentials.keyring_file, and reload the configuration.'
FROM current_setting('integration_credentials.keyring_file', true) AS file
WHERE starts_with(file, current_setting('data_directory') || '/')
