WITH loud(name, pattern, quiet, only_with) AS (VALUES
    ('log_statement', '^(mod|all)$', 'none', NULL),
    ('log_min_duration_statement', '^[0-9]', '-1', NULL),
    ('log_min_duration_sample', '^[0-9]', '-1', NULL),
    ('log_transaction_sample_rate', '[1-9]', '0', NULL),
    -- Unlimited by default, and without effect unless statements are logged.
    ('log_parameter_max_length', '^[^0]', '0',
        '^(log_statement|log_min_duration_statement|log_min_duration_sample|log_transaction_sample_rate)$'),
    ('log_parameter_max_length_on_error', '^[^0]', '0', NULL),
    ('log_min_error_statement', '^(debug|info|notice|warning)', 'error', NULL),
    ('log_min_messages', '^debug', 'warning', NULL),
    ('debug_print_parse', '^on$', 'off', NULL),
    ('debug_print_rewritten', '^on$', 'off', NULL),
    ('debug_print_plan', '^on$', 'off', NULL),
    ('auto_explain.log_min_duration', '^[0-9]', '-1', NULL),
    ('auto_explain.log_parameter_max_length', '^[^0]', '0', '^auto_explain\.log_min_duration$'),
    ('pgaudit.log', 'all|read|write|function|misc', 'none', NULL),
    ('pgaudit.log_parameter', '^on$', 'off', '^pgaudit\.log$'),
    ('pg_stat_statements.track_utility', '^on$', 'off', NULL)),
found AS (
    SELECT name, setting, quiet, only_with FROM pg_settings JOIN loud USING (name) WHERE setting ~ pattern)
SELECT 'advice', format('%s = %s', name, setting), 'reload', format('%s = %s', name, quiet)
FROM found AS this
WHERE only_with IS NULL OR EXISTS (SELECT FROM found AS other WHERE other.name ~ this.only_with)
ORDER BY name
