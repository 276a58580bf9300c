-- A setting whose output the library cannot redact is a problem; the others may be intended. The statements contain only
-- names of this list.
WITH loud(name, pattern, verdict) AS (VALUES
    ('debug_print_parse', '^(on|t|y|1)', 'problem'),
    ('debug_print_rewritten', '^(on|t|y|1)', 'problem'),
    ('debug_print_plan', '^(on|t|y|1)', 'problem'),
    ('client_min_messages', '^debug', 'problem'),
    ('log_statement', '^(mod|all)$', 'advice'),
    ('log_min_duration_statement', '^[^-]', 'advice'),
    ('log_min_duration_sample', '^[^-]', 'advice'),
    ('log_transaction_sample_rate', '[1-9]', 'advice'),
    ('log_parameter_max_length_on_error', '^[^0]', 'advice'),
    ('log_min_error_statement', '^(debug|info|notice|warning)', 'advice'),
    ('log_min_messages', '^(debug|log$|fatal|panic)', 'advice'),
    ('lc_messages', '^(?!(c|posix|en)($|[._@]))', 'advice'),
    ('auto_explain.log_min_duration', '^[^-]', 'advice'),
    ('pgaudit.log', 'all|read|write|function|misc', 'advice'),
    ('pgaudit.log_parameter', '^(on|t|y|1)', 'advice'))
SELECT verdict, format('%s: %s', target, entry), CASE verdict WHEN 'problem' THEN 'sql' ELSE 'byHand' END,
       format('ALTER %s RESET %s;', target, name)
FROM pg_db_role_setting
CROSS JOIN unnest(setconfig) AS entry
JOIN loud ON name = split_part(entry, '=', 1) AND lower(substr(entry, length(name) + 2)) ~ pattern,
     LATERAL (SELECT concat_ws(' IN ',
         CASE WHEN setrole <> 0 THEN 'ROLE ' || setrole::regrole WHEN setdatabase = 0 THEN 'ROLE ALL' END,
         CASE WHEN setdatabase <> 0 THEN format('DATABASE %I', current_database()) END)) AS t(target)
WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
  -- Only roles that may set a credential.
  AND (setrole = 0 OR has_function_privilege(
          setrole, to_regprocedure('integration_credentials.admin_set_integration_credentials(text,text,text)'),
          'EXECUTE'))
ORDER BY verdict DESC, 2
