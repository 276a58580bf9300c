-- '' is what the environment of the postmaster says, which nobody can see from here.
SELECT 'advice', format('lc_messages = ''%s''', current_setting('lc_messages')), 'reload', 'lc_messages = ''C'''
WHERE lower(current_setting('lc_messages')) !~ '^(c|posix|en)($|[._@])'
