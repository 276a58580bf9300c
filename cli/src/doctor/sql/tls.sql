SELECT 'problem', format('ssl is off, and the server listens on %s', current_setting('listen_addresses')), 'reload',
       'ssl = on  # with ssl_cert_file and ssl_key_file'
WHERE current_setting('ssl') = 'off'
  AND EXISTS (SELECT FROM regexp_split_to_table(current_setting('listen_addresses'), '\s*,\s*') AS address
              WHERE address NOT IN ('', 'localhost', '127.0.0.1', '::1'))
UNION ALL
SELECT 'problem', 'this connection crosses a network unencrypted', 'byHand', 'Connect with sslmode=verify-full.'
FROM pg_stat_ssl
WHERE pid = pg_backend_pid() AND NOT ssl
  -- NULL over a socket.
  AND NOT (inet_client_addr() <<= '127.0.0.0/8' OR inet_client_addr() = '::1')
