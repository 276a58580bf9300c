-- Runs last in the install script. A new function is executable by PUBLIC until somebody revokes it.
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA integration_credentials FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA integration_credentials FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA integration_credentials FROM PUBLIC;
