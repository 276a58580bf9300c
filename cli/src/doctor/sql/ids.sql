-- The lock blocks writers, which would advance the sequence concurrently.
SELECT 'problem', format('%s has rows up to id %s, and its next row would get id %s', log, highest, next), 'sql',
       format('LOCK TABLE integration_credentials.%I IN SHARE ROW EXCLUSIVE MODE; '
              || 'SELECT pg_catalog.setval(%L, (SELECT pg_catalog.max(id) FROM integration_credentials.%I));',
              log, 'integration_credentials.' || log || '_id_seq', log)
FROM (SELECT 'webapp_org_admin_audit_log', (SELECT max(id) FROM integration_credentials.webapp_org_admin_audit_log),
             last_value + is_called::int
      FROM integration_credentials.webapp_org_admin_audit_log_id_seq
      UNION ALL
      SELECT 'tool_metering', (SELECT max(id) FROM integration_credentials.tool_metering), last_value + is_called::int
      FROM integration_credentials.tool_metering_id_seq) AS logs (log, highest, next)
WHERE highest >= next
