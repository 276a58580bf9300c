-- In the order for the log, LOG is above ERROR.
SELECT 'advice', format('log_min_messages = %s', current_setting('log_min_messages')), 'reload',
       'log_min_messages = warning'
WHERE current_setting('log_min_messages') IN ('log', 'fatal', 'panic')
