-- The server refuses a file of another owner or with another mode, and says so.
SELECT 'ok', format('the keyring can be used; new values are encrypted with key %s',
                    integration_credentials.sealing_key() ->> 'keyId'), NULL, NULL
