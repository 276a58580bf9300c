-- Reads the highest id org by org, with the primary key, because a log may be long. The lock of the fix blocks writers,
-- which would advance the sequence concurrently.
WITH RECURSIVE audit (org) AS (
    SELECT min(org_slug) FROM integration_credentials.webapp_org_admin_audit_log
    UNION ALL
    SELECT (SELECT min(org_slug) FROM integration_credentials.webapp_org_admin_audit_log WHERE org_slug > org)
    FROM audit WHERE org IS NOT NULL
), metering (org) AS (
    SELECT min(org_slug) FROM integration_credentials.tool_metering
    UNION ALL
    SELECT (SELECT min(org_slug) FROM integration_credentials.tool_metering WHERE org_slug > org)
    FROM metering WHERE org IS NOT NULL
)
SELECT 'problem', format('%s has rows up to id %s, and its next row would get id %s', log, highest, next), 'sql',
       format('LOCK TABLE integration_credentials.%I IN SHARE ROW EXCLUSIVE MODE; '
              || 'SELECT pg_catalog.setval(%L, (SELECT pg_catalog.max(id) FROM integration_credentials.%I));',
              log, 'integration_credentials.' || log || '_id_seq', log)
FROM (SELECT 'webapp_org_admin_audit_log',
             (SELECT max((SELECT max(id) FROM integration_credentials.webapp_org_admin_audit_log WHERE org_slug = org))
              FROM audit),
             last_value + is_called::int
      FROM integration_credentials.webapp_org_admin_audit_log_id_seq
      UNION ALL
      SELECT 'tool_metering',
             (SELECT max((SELECT max(id) FROM integration_credentials.tool_metering WHERE org_slug = org)) FROM metering),
             last_value + is_called::int
      FROM integration_credentials.tool_metering_id_seq) AS logs (log, highest, next)
WHERE highest >= next
