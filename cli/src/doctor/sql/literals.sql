SELECT 'advice', 'a value in the text of a statement causes a notice, and is not refused', 'reload',
       'integration_credentials.refuse_literals = on'
WHERE current_setting('integration_credentials.refuse_literals', true) IS DISTINCT FROM 'on'
