SELECT 'problem', 'password_encryption = md5', 'reload', 'password_encryption = scram-sha-256'
WHERE current_setting('password_encryption') = 'md5'
