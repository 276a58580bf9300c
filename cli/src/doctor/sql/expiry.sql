-- By the list as JSON, because that of version 0.1.0 has no expiry.
SELECT CASE WHEN t.expires_at <= now() THEN 'problem' ELSE 'advice' END,
       format(CASE WHEN t.expires_at <= now() THEN 'the credential of %s expired on %s'
                   ELSE 'the credential of %s expires on %s' END, t.key, t.expires_at::date),
       'byHand', format('Rotate it: intcred rotate %s', t.key)
FROM (SELECT l.key, (to_jsonb(l) ->> 'expiresAt')::timestamptz AS expires_at
      FROM integration_credentials.list_integrations() AS l WHERE l."hasCredentials") AS t
WHERE t.expires_at < now() + interval '7 days'
ORDER BY t.expires_at, t.key
