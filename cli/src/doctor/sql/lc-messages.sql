-- '' stands for the postmaster's environment, which SQL cannot read.
SELECT 'advice', format('lc_messages = ''%s''', current_setting('lc_messages')), 'reload', 'lc_messages = ''C'''
WHERE lower(current_setting('lc_messages')) !~ '^(c|posix|en)($|[._@])'
