//! From the sources to the settings.

use super::{
    Settings, conninfo,
    environment::Environment,
    error::{SettingsError, expected},
    keepalive::keepalive,
    keywords::KEYWORDS,
    passfile::Passfile,
    service,
    target::{SessionAttrs, targets},
    tls::tls,
    uri,
    values::Values,
};
use crate::Secret;
use std::path::PathBuf;
use tokio_postgres::{Config, config::ChannelBinding};

impl Settings {
    /// Resolves the connection settings from an optional DSN (a URI or `key=value` pairs), the service file,
    /// the `PG*` variables and the password file. Does not connect.
    ///
    /// # Errors
    /// [`SettingsError`] for a setting that is malformed or not supported, or a file that cannot be read.
    pub fn resolve(dsn: Option<&str>) -> Result<Self, SettingsError> {
        resolve(dsn, &Environment::of_process())
    }
}

fn resolve(dsn: Option<&str>, environment: &Environment) -> Result<Settings, SettingsError> {
    let values = collect(dsn, environment)?;
    let mut warnings = Vec::new();
    let user = values.filled("user").or(environment.user()).ok_or(SettingsError::NoUser)?;
    let dbname = values.filled("dbname").unwrap_or(user);

    let mut targets = targets(&values)?;
    if let Some(password) = values.filled("password") {
        for target in &mut targets {
            target.password = Some(Secret::new(password.to_owned()));
        }
    } else {
        let path = values.filled("passfile").map(PathBuf::from).or_else(|| environment.in_home(".pgpass"));
        let passfile = path.map(|path| Passfile::load(&path, &mut warnings)).unwrap_or_default();
        for target in &mut targets {
            target.password = passfile.find(target.passfile_host(), &target.port.to_string(), dbname, user);
        }
    }
    Ok(Settings {
        targets,
        config: config(&values, user, dbname)?,
        tls: tls(&values, environment)?,
        session_attrs: session_attrs(&values)?,
        shuffle: match values.filled("load_balance_hosts") {
            None | Some("disable") => false,
            Some("random") => true,
            Some(_) => return Err(expected("load_balance_hosts", "disable or random")),
        },
        peer: values.filled("requirepeer").map(str::to_owned),
        keepalive: keepalive(&values)?,
        // As in libpq, zero and below mean no limit.
        connect_timeout: values.seconds("connect_timeout")?.filter(|timeout| !timeout.is_zero()),
        failed_attempts: 0,
        warnings,
    })
}

fn collect(dsn: Option<&str>, environment: &Environment) -> Result<Values, SettingsError> {
    let mut values = match dsn {
        None => Values::default(),
        Some(dsn) => uri::strip_scheme(dsn).map_or_else(|| conninfo::parse(dsn), uri::parse)?,
    };
    let mut variables = Values::default();
    for keyword in &KEYWORDS {
        if let Some(variable) = keyword.variable
            && let Some(value) = environment.variable(variable)?
        {
            // Another value has no effect in libpq.
            if keyword.name != "requiressl" || value.starts_with('1') {
                variables.set(keyword.name, value.clone())?;
            }
        }
    }
    let named = |keyword| values.filled(keyword).or_else(|| variables.filled(keyword));
    if let Some(service) = named("service") {
        let service = service::load(service, named("servicefile"), environment)?;
        values.complete_with(service);
    }
    values.complete_with(variables);
    values.check()?;
    Ok(values)
}

fn session_attrs(values: &Values) -> Result<SessionAttrs, SettingsError> {
    Ok(match values.filled("target_session_attrs") {
        None | Some("any") => SessionAttrs::Any,
        Some("read-write") => SessionAttrs::ReadWrite,
        Some("read-only") => SessionAttrs::ReadOnly,
        Some("primary") => SessionAttrs::Primary,
        Some("standby") => SessionAttrs::Standby,
        Some("prefer-standby") => SessionAttrs::PreferStandby,
        Some(_) => {
            let all = "any, read-write, read-only, primary, standby or prefer-standby";
            return Err(expected("target_session_attrs", all));
        }
    })
}

fn config(values: &Values, user: &str, dbname: &str) -> Result<Config, SettingsError> {
    let mut config = Config::new();
    config.user(user).dbname(dbname);
    let application_name =
        values.filled("application_name").or_else(|| values.filled("fallback_application_name"));
    config.application_name(application_name.unwrap_or("intcred"));
    if let Some(options) = values.filled("options") {
        config.options(options);
    }
    config.channel_binding(match values.filled("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("require") => ChannelBinding::Require,
        Some("disable") => ChannelBinding::Disable,
        Some(_) => return Err(expected("channel_binding", "disable, prefer or require")),
    });
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::SslMode;
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    fn resolved(dsn: Option<&str>, variables: &[(&str, &str)]) -> Settings {
        resolve(dsn, &Environment::fake(Path::new("/nonexistent"), variables)).unwrap()
    }

    #[test]
    fn without_any_source_the_defaults_are_libpqs() {
        let settings = resolved(None, &[]);
        assert_eq!(settings.targets[0].to_string(), "/var/run/postgresql/.s.PGSQL.5432");
        assert_eq!(settings.config.get_user(), Some("osuser"));
        assert_eq!(settings.dbname(), "osuser");
        assert_eq!(settings.tls.mode, SslMode::Prefer);
        assert_eq!(settings.connect_timeout, None);
    }

    #[test]
    fn dsn_precedes_service_precedes_environment() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join(".pg_service.conf"), "[s]\nhost=service\nport=2\nsslmode=require\n")
            .unwrap();
        let variables =
            [("PGHOST", "env"), ("PGPORT", "3"), ("PGDATABASE", "env"), ("PGUSER", "me"), ("PGSERVICE", "s")];
        let environment = Environment::fake(home.path(), &variables);

        let settings = resolve(Some("postgres://dsn/"), &environment).unwrap();
        assert_eq!(settings.targets[0].to_string(), "dsn:2");
        assert_eq!(settings.tls.mode, SslMode::Require);
        assert_eq!(settings.dbname(), "env");
        assert_eq!(settings.config.get_user(), Some("me"));

        let other = resolve(Some("service=t"), &environment);
        assert_eq!(other.unwrap_err().to_string(), "no service file has the service \"t\"");
    }

    #[test]
    fn hosts_addresses_and_ports_are_paired() {
        let settings = resolved(Some("host=a,b,/tmp port=1,,3 hostaddr=10.0.0.1,,"), &[]);
        let shown: Vec<_> = settings.targets.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a:1", "b:5432", "/tmp/.s.PGSQL.3"]);
        assert_eq!(settings.targets[0].hostaddr, Some([10, 0, 0, 1].into()));
        assert_eq!(resolved(Some("hostaddr=::1 port=7"), &[]).targets[0].to_string(), "[::1]:7");

        let environment = Environment::fake(Path::new("/nonexistent"), &[]);
        for dsn in ["host=a,b port=1,2,3", "host=a,b hostaddr=::1", "port=0", "port=x", "hostaddr=x"] {
            assert!(resolve(Some(dsn), &environment).is_err(), "{dsn}");
        }
    }

    #[test]
    fn each_host_has_its_own_line_in_the_password_file() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".pgpass");
        fs::write(&path, "a:5432:*:me:pa\nb:*:db:me:pb\nlocalhost:*:*:*:socket\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let environment = Environment::fake(home.path(), &[("PGUSER", "me")]);
        let passwords = |dsn| -> Vec<Option<String>> {
            let settings = resolve(Some(dsn), &environment).unwrap();
            settings.targets.into_iter().map(|t| t.password.map(|p| p.expose().to_owned())).collect()
        };
        assert_eq!(passwords("host=a,b dbname=db"), [Some("pa".into()), Some("pb".into())]);
        assert_eq!(passwords("host=b dbname=other"), [None]);
        assert_eq!(passwords("dbname=db"), [Some("socket".into())]);
        assert_eq!(passwords("host=a password=given"), [Some("given".into())]);
    }

    fn refused(dsn: &str, variables: &[(&str, &str)]) -> String {
        let environment = Environment::fake(Path::new("/nonexistent"), variables);
        resolve(Some(dsn), &environment).err().map(|error| error.to_string()).unwrap_or_default()
    }

    /// Each keyword of libpq 15 to 18, with a value that is accepted, and a value that must be refused. An
    /// empty text stands for no such value.
    const EACH: [(&str, &str, &str); 52] = [
        ("application_name", "a", ""),
        ("channel_binding", "prefer", ""),
        ("client_encoding", "UTF8", ""),
        ("connect_timeout", "1", ""),
        ("dbname", "d", ""),
        ("fallback_application_name", "a", ""),
        ("gssdelegation", "0", ""),
        ("gssencmode", "prefer", "require"),
        ("gsslib", "gssapi", ""),
        ("host", "h", ""),
        ("hostaddr", "::1", ""),
        ("keepalives", "1", ""),
        ("keepalives_count", "1", ""),
        ("keepalives_idle", "1", ""),
        ("keepalives_interval", "1", ""),
        ("krbsrvname", "postgres", ""),
        ("load_balance_hosts", "disable", ""),
        ("max_protocol_version", "3.0", ""),
        ("min_protocol_version", "3.0", "3.2"),
        ("oauth_client_id", "", "x"),
        ("oauth_client_secret", "", "x"),
        ("oauth_issuer", "", "x"),
        ("oauth_scope", "", "x"),
        ("options", "-c a.b=c", ""),
        ("passfile", "/nonexistent", ""),
        ("password", "p", ""),
        ("port", "1", ""),
        ("replication", "false", "database"),
        ("require_auth", "", "scram-sha-256"),
        ("requirepeer", "postgres", ""),
        ("requiressl", "1", ""),
        ("scram_client_key", "", "x"),
        ("scram_server_key", "", "x"),
        ("service", "", ""),
        ("servicefile", "/nonexistent", ""),
        ("ssl_max_protocol_version", "TLSv1.3", "SSLv3"),
        ("ssl_min_protocol_version", "TLSv1.2", "TLSv2"),
        ("sslcert", "/nonexistent", ""),
        ("sslcertmode", "allow", "require"),
        ("sslcompression", "1", ""),
        ("sslcrl", "/nonexistent", ""),
        ("sslcrldir", "/nonexistent", ""),
        ("sslkey", "/nonexistent", ""),
        ("sslkeylogfile", "", "/tmp/keys"),
        ("sslmode", "prefer", "verify"),
        ("sslnegotiation", "postgres", "direct"),
        ("sslpassword", "p", ""),
        ("sslrootcert", "/nonexistent", "system sslmode=require"),
        ("sslsni", "1", ""),
        ("target_session_attrs", "any", "read_write"),
        ("tcp_user_timeout", "0", ""),
        ("user", "u", ""),
    ];

    #[test]
    fn keywords_of_libpq_have_their_effect_or_none_or_are_refused_by_name() {
        let mut known: Vec<_> = KEYWORDS.iter().map(|keyword| keyword.name).collect();
        known.sort_unstable();
        assert_eq!(known, EACH.map(|(name, ..)| name));
        for (name, harmless, asks) in EACH {
            for harmless in [harmless, ""] {
                assert_eq!(refused(&format!("{name}='{harmless}'"), &[]), "", "{name}");
            }
            if !asks.is_empty() {
                let error = refused(&format!("{name}={asks}"), &[]);
                let named = error.contains(&format!("\"{name}\"")) || error.contains("\"sslmode\"");
                assert!(named, "{name}: {error}");
            }
            let variable = KEYWORDS.iter().find(|keyword| keyword.name == name).unwrap().variable;
            if let Some(variable) = variable.filter(|_| !asks.is_empty() && !asks.contains(' ')) {
                assert_ne!(refused("", &[(variable, asks)]), "", "{variable}");
                // As in libpq, the DSN takes precedence over the variable.
                assert_eq!(refused(&format!("{name}='{harmless}'"), &[(variable, asks)]), "", "{variable}");
            }
        }
        assert_eq!(
            refused("gssencmode=require", &[]),
            "the connection setting \"gssencmode\" is not supported; remove the setting, or set disable or prefer"
        );
    }

    #[test]
    fn requiressl_is_an_older_sslmode() {
        let mode = |dsn, variables: &[_]| resolved(Some(dsn), variables).tls.mode;
        assert_eq!(mode("requiressl=1", &[]), SslMode::Require);
        assert_eq!(mode("requiressl=0", &[]), SslMode::Prefer);
        assert_eq!(mode("", &[("PGREQUIRESSL", "1")]), SslMode::Require);
        assert_eq!(mode("", &[("PGREQUIRESSL", "0")]), SslMode::Prefer);
        assert_eq!(mode("", &[("PGREQUIRESSL", "1"), ("PGSSLMODE", "verify-full")]), SslMode::VerifyFull);
        assert_eq!(mode("sslmode=verify-ca", &[("PGREQUIRESSL", "1")]), SslMode::VerifyCa);
        assert_eq!(mode("sslrootcert=system", &[]), SslMode::VerifyFull);
    }

    #[test]
    fn settings_of_tls_that_contradict_each_other_are_refused() {
        for dsn in [
            "ssl_min_protocol_version=TLSv1.3 ssl_max_protocol_version=tlsv1.2",
            "ssl_max_protocol_version=TLSv1",
            "sslnegotiation=direct sslmode=prefer",
            "sslrootcert=system sslmode=verify-ca",
        ] {
            assert_ne!(refused(dsn, &[]), "", "{dsn}");
        }
        assert!(resolved(Some("sslnegotiation=direct sslmode=require"), &[]).tls.direct);
        assert!(!resolved(Some("sslsni=0"), &[]).tls.sends_sni);
    }

    #[test]
    fn a_host_may_be_a_socket_in_no_directory() {
        let target = &resolved(Some("host=@name port=7"), &[]).targets[0];
        assert_eq!((target.is_socket(), target.socket().as_str()), (true, "\0name/.s.PGSQL.7"));
        assert_eq!(target.to_string(), "@name/.s.PGSQL.7");
        assert_eq!(resolved(Some("host=/tmp"), &[]).targets[0].socket(), "/tmp/.s.PGSQL.5432");
        assert_eq!(resolved(Some("requirepeer="), &[]).peer, None);
    }

    #[test]
    fn debug_shows_no_password() {
        let settings = resolved(Some("postgres://me:hunter2@h/"), &[]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
