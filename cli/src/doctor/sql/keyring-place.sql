SELECT 'problem', 'the keyring is in the data directory, and so in every base backup', 'byHand',
       'Move the file elsewhere, set integration_credentials.keyring_file to the new path, and reload the configuration.'
FROM current_setting('integration_credentials.keyring_file', true) AS file
WHERE starts_with(file, current_setting('data_directory') || '/')
