//! From the sources to the settings.

use super::{
    Settings, SettingsError, conninfo,
    environment::Environment,
    keywords::{KEYWORDS, Support},
    passfile::Passfile,
    service,
    target::targets,
    tls::tls,
    uri,
    values::Values,
};
use crate::Secret;
use std::{path::PathBuf, time::Duration};
use tokio_postgres::{
    Config,
    config::{ChannelBinding, TargetSessionAttrs},
};

pub(super) fn resolve(dsn: Option<&str>, environment: &Environment) -> Result<Settings, SettingsError> {
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
        // Zero and below mean forever, as in libpq.
        connect_timeout: seconds(&values, "connect_timeout")?.filter(|timeout| !timeout.is_zero()),
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
        if let Some(value) = keyword.variable.and_then(|variable| environment.variable(variable)) {
            // An empty variable of a keyword that we lack changes nothing.
            if keyword.support == Support::Used || !value.is_empty() {
                variables.set(keyword.name, value.clone())?;
            }
        }
    }
    let service = values.filled("service").or_else(|| variables.filled("service"));
    if let Some(service) = service.map(|name| service::load(name, environment)).transpose()? {
        values.complete_with(service);
    }
    values.complete_with(variables);
    Ok(values)
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
    config.target_session_attrs(match values.filled("target_session_attrs") {
        None | Some("any") => TargetSessionAttrs::Any,
        Some("read-write") => TargetSessionAttrs::ReadWrite,
        Some("read-only") => TargetSessionAttrs::ReadOnly,
        Some(_) => return Err(expected("target_session_attrs", "any, read-write or read-only")),
    });
    config.channel_binding(match values.filled("channel_binding") {
        None | Some("prefer") => ChannelBinding::Prefer,
        Some("require") => ChannelBinding::Require,
        Some("disable") => ChannelBinding::Disable,
        Some(_) => return Err(expected("channel_binding", "disable, prefer or require")),
    });
    config.keepalives(number(values, "keepalives")? != Some(0));
    // Linux would wait two hours; a listener is idle for as long as nobody rotates.
    config.keepalives_idle(seconds(values, "keepalives_idle")?.unwrap_or(Duration::from_mins(1)));
    if let Some(interval) = seconds(values, "keepalives_interval")? {
        config.keepalives_interval(interval);
    }
    if let Some(count) = number(values, "keepalives_count")? {
        config.keepalives_retries(u32::try_from(count).unwrap_or(0));
    }
    if let Some(timeout) = number(values, "tcp_user_timeout")? {
        config.tcp_user_timeout(Duration::from_millis(u64::try_from(timeout).unwrap_or(0)));
    }
    Ok(config)
}

fn number(values: &Values, keyword: &'static str) -> Result<Option<i32>, SettingsError> {
    values
        .filled(keyword)
        .map(|value| value.trim().parse().map_err(|_| expected(keyword, "a whole number")))
        .transpose()
}

fn seconds(values: &Values, keyword: &'static str) -> Result<Option<Duration>, SettingsError> {
    Ok(number(values, keyword)?.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0))))
}

const fn expected(keyword: &'static str, expected: &'static str) -> SettingsError {
    SettingsError::Value { keyword, expected }
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

    #[test]
    fn what_could_weaken_the_connection_is_refused_and_what_could_not_is_ignored() {
        let environment = Environment::fake(Path::new("/nonexistent"), &[("PGSSLCRL", "/crl")]);
        assert_eq!(
            resolve(None, &environment).unwrap_err().to_string(),
            "the connection setting \"sslcrl\" is not supported here"
        );
        resolved(Some("gssencmode=prefer"), &[("PGCLIENTENCODING", "LATIN1"), ("PGREQUIREAUTH", "")]);
        let environment = Environment::fake(Path::new("/nonexistent"), &[]);
        assert!(resolve(Some("sslrootcert=system sslmode=require"), &environment).is_err());
        assert_eq!(resolved(Some("sslrootcert=system"), &[]).tls.mode, SslMode::VerifyFull);
    }

    #[test]
    fn debug_shows_no_password() {
        let settings = resolved(Some("postgres://me:hunter2@h/"), &[]);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
