-- A rotation that waits for a day, with those that it waits for.
SELECT 'advice',
       format('the rotation of %s waits for a day or longer%s', s.key, coalesce(': ' || (
           SELECT string_agg(DISTINCT coalesce(b.who ->> 'name', b.who ->> 'role'), ', ')
           FROM jsonb_array_elements(s.behind) AS b(who)), '')),
       'byHand', format('Restart those that still have the old value, then: intcred rotate %s --resume', s.key)
FROM integration_credentials.rotation_status() AS s
JOIN integration_credentials.list_integrations() AS l ON l.key = s.key
WHERE s.verdict = 'waiting' AND l."updatedAt" < now() - interval '1 day'
ORDER BY s.key
