-- Rows that no block has, although they are a minute old: above the ids that the newest block has settled.
SELECT 'problem', format('%s audit rows have been in no signed block for a minute or longer', count(*)), 'sql',
       'SELECT integration_credentials.audit_seal();'
FROM (SELECT FROM integration_credentials.webapp_org_admin_audit_log
      WHERE created_at < clock_timestamp() - interval '1 minute'
        AND id >= coalesce((SELECT coalesce(unsettled[cardinality(unsettled) - 1], last_id + 1)
                            FROM integration_credentials.audit_blocks ORDER BY number DESC LIMIT 1),
                           (SELECT min(id) FROM integration_credentials.webapp_org_admin_audit_log))
      LIMIT 1000) AS waiting
HAVING count(*) > 0
