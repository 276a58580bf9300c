//! The Postgres installation under test, and the user that its programs run as.

use crate::process::without_inherited_settings;
use nix::unistd::{User, geteuid};
use std::{
    env,
    ffi::OsStr,
    fs,
    io::{self, Write},
    os::unix::{
        fs::{OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

/// The name of the extension, and of its library.
pub const EXTENSION: &str = "integration_credentials";

/// Where Postgres is, and whom it runs as.
#[derive(Clone, Debug)]
pub struct Installation {
    bindir: PathBuf,
    sharedir: PathBuf,
    pkglibdir: PathBuf,
    localedir: PathBuf,
    /// Postgres refuses to run as root. None: the tests run as an ordinary user, and so do the servers.
    user: Option<User>,
}

impl Installation {
    /// Asks `$PG_CONFIG`, or else the `pg_config` on PATH.
    #[must_use]
    pub fn find() -> Self {
        let pg_config = env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into());
        let output = Command::new(&pg_config)
            .args(["--bindir", "--sharedir", "--pkglibdir", "--localedir"])
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}. {MISSING}", pg_config.display()));
        let answer = String::from_utf8(output.stdout).expect("pg_config answers in UTF-8");
        let [bindir, sharedir, pkglibdir, localedir] =
            answer.lines().map(PathBuf::from).collect::<Vec<_>>().try_into().unwrap_or_else(|_| {
                panic!("{} does not name four directories: {answer:?}. {MISSING}", pg_config.display())
            });
        assert!(bindir.join("initdb").exists(), "there is no initdb in {}. {MISSING}", bindir.display());
        Self { bindir, sharedir, pkglibdir, localedir, user: geteuid().is_root().then(unprivileged) }
    }

    /// The folder of Postgres' own programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.bindir
    }

    /// Panics unless `make install` has put the extension where the server looks for it.
    pub fn require_extension(&self) {
        for file in [self.sharedir.join(format!("extension/{EXTENSION}.control")), self.extension_library()] {
            assert!(
                file.exists(),
                "{} is missing: install the extension with `make install`",
                file.display()
            );
        }
    }

    /// Panics unless the server has a library that some other package brings.
    pub fn require_library(&self, library: &str, package: &str) {
        let file = self.pkglibdir.join(format!("{library}{}", env::consts::DLL_SUFFIX));
        assert!(
            file.exists(),
            "{} is missing: on Debian, `make deps` installs it with {package}; for a Postgres from elsewhere, \
             build {library} for it",
            file.display()
        );
    }

    /// The languages, other than English, that the server's messages are translated into.
    #[must_use]
    pub fn languages(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.localedir).into_iter().flatten().flatten();
        let translated = entries.filter(|entry| entry.path().join("LC_MESSAGES/postgres-15.mo").exists());
        let mut languages: Vec<_> =
            translated.map(|entry| entry.file_name().into_string().expect("a language")).collect();
        languages.sort();
        assert!(
            !languages.is_empty(),
            "no translation of Postgres' messages is in {}: on Debian, `make deps` installs them with postgresql-15; a \
             Postgres from elsewhere must be built with --enable-nls",
            self.localedir.display()
        );
        languages
    }

    /// Where the server looks for the extension's library.
    #[must_use]
    pub fn extension_library(&self) -> PathBuf {
        self.pkglibdir.join(format!("{EXTENSION}{}", env::consts::DLL_SUFFIX))
    }

    /// One of Postgres' own programs, as the server's user, at home in `dir`.
    #[must_use]
    pub fn command(&self, program: &str, dir: &Path) -> Command {
        self.command_of(self.bindir.join(program), dir)
    }

    /// The same, with so many kilobytes of address space at most.
    #[must_use]
    pub fn limited_command(&self, program: &str, dir: &Path, kilobytes: u64) -> Command {
        let mut command = self.command_of("sh", dir);
        command.args(["-c", "ulimit -v \"$0\" && exec \"$@\"", &kilobytes.to_string()]);
        command.arg(self.bindir.join(program));
        command
    }

    fn command_of(&self, program: impl AsRef<OsStr>, dir: &Path) -> Command {
        let mut command = Command::new(program);
        without_inherited_settings(&mut command);
        command.current_dir(dir).env("HOME", dir);
        if let Some(user) = &self.user {
            // Given a uid while root, Command clears the supplementary groups too.
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Makes the server's user the owner of `path`.
    pub fn give(&self, path: &Path) -> io::Result<()> {
        self.user
            .as_ref()
            .map_or(Ok(()), |user| chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())))
    }

    /// Writes a file that only the server's user can read.
    pub fn write_private(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        self.give(path)
    }
}

const MISSING: &str = "Install Postgres and its development files with `make deps`, or set PG_CONFIG \
                       to the pg_config of another installation";

fn unprivileged() -> User {
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).expect("the user database is readable"))
        .expect("root needs a user `postgres` or `nobody` to run servers as")
}
