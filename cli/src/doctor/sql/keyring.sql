-- The server itself checks owner and mode of the file.
SELECT 'ok', format('the keyring can be used; new values are encrypted with key %s',
                    integration_credentials.sealing_key() ->> 'keyId'), NULL, NULL
