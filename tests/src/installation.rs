//! The Postgres installation under test, and the user that its programs run as.

use crate::process::without_inherited_settings;
use nix::unistd::{User, geteuid};
use std::{
    collections::BTreeSet,
    env,
    ffi::OsStr,
    fs,
    io::{self, Write, stderr},
    os::unix::{
        fs::{OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError},
};

/// The name of the extension, and of its library.
pub const EXTENSION: &str = "integration_credentials";

/// A library that a test needs, and a server may lack.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Its name.
    pub library: &'static str,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
enum Origin {
    /// Of Postgres, where it was configured with this option.
    Configured(&'static str),
    /// Another project's, which Debian has packages of.
    Elsewhere,
}

/// PL/Python.
pub const PLPYTHON: Part = Part { library: "plpython3", origin: Origin::Configured("--with-python") };
/// PL/Perl.
pub const PLPERL: Part = Part { library: "plperl", origin: Origin::Configured("--with-perl") };
/// PL/Tcl.
pub const PLTCL: Part = Part { library: "pltcl", origin: Origin::Configured("--with-tcl") };
/// pgaudit.
pub const PGAUDIT: Part = Part { library: "pgaudit", origin: Origin::Elsewhere };
/// A library of contrib, which every server has.
#[must_use]
pub const fn contrib(library: &'static str) -> Part {
    Part { library, origin: Origin::Configured("") }
}

/// Where Postgres is, and whom it runs as.
#[derive(Clone, Debug)]
pub struct Installation {
    major: u32,
    /// The options that it was built with.
    configured: String,
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
        Self::of(&env::var_os("PG_CONFIG").unwrap_or_else(|| "pg_config".into()))
    }

    /// Asks this `pg_config`.
    #[must_use]
    pub fn of(pg_config: &OsStr) -> Self {
        let output = Command::new(pg_config)
            .args(["--bindir", "--sharedir", "--pkglibdir", "--localedir", "--version", "--configure"])
            .output()
            .unwrap_or_else(|error| panic!("cannot run {}: {error}. {MISSING}", pg_config.display()));
        let answer = String::from_utf8(output.stdout).expect("pg_config answers in UTF-8");
        let [bindir, sharedir, pkglibdir, localedir, version, configured] =
            answer.lines().collect::<Vec<_>>().try_into().unwrap_or_else(|_| {
                panic!("{} does not answer six questions: {answer:?}. {MISSING}", pg_config.display())
            });
        let [bindir, sharedir, pkglibdir, localedir] =
            [bindir, sharedir, pkglibdir, localedir].map(PathBuf::from);
        assert!(bindir.join("initdb").exists(), "there is no initdb in {}. {MISSING}", bindir.display());
        let major = version.trim_start_matches("PostgreSQL ").split(|letter: char| !letter.is_ascii_digit());
        let major = major.flat_map(str::parse).next().expect("a version begins with the major");
        let user = geteuid().is_root().then(unprivileged);
        Self { major, configured: configured.to_owned(), bindir, sharedir, pkglibdir, localedir, user }
    }

    /// Of which major Postgres is.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }

    /// The folder of Postgres' own programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.bindir
    }

    /// Panics unless `make install` has put the extension where the server looks for it.
    pub fn require_extension(&self) {
        for file in [self.extension_dir().join(format!("{EXTENSION}.control")), self.extension_library()] {
            assert!(
                file.exists(),
                "{} is missing: install the extension with `make install`",
                file.display()
            );
        }
    }

    /// Whether the server has a library. One that this server cannot have is skipped, and the tests' output says so; that another one
    /// is missing is a failure.
    #[must_use]
    pub fn has(&self, part: Part) -> bool {
        let file = self.pkglibdir.join(format!("{}{}", part.library, env::consts::DLL_SUFFIX));
        if file.exists() {
            return true;
        }
        let is_lacking = match part.origin {
            Origin::Configured(option) => !self.configured.contains(option),
            Origin::Elsewhere => !self.is_debians(),
        };
        assert!(is_lacking, "{} is missing: `make deps` installs it on Debian", file.display());
        self.skip(part.library);
        false
    }

    /// Whether the server sorts by ICU, too. One that was built without is skipped.
    #[must_use]
    pub fn has_icu(&self) -> bool {
        let has = match self.major {
            ..16 => self.configured.contains("--with-icu"),
            _ => !self.configured.contains("--without-icu"),
        };
        if !has {
            self.skip("ICU");
        }
        has
    }

    /// Whether it is of Debian's packages.
    fn is_debians(&self) -> bool {
        self.pkglibdir == Path::new(&format!("/usr/lib/postgresql/{}/lib", self.major))
    }

    /// Says which part of a test is skipped, once, whatever becomes of the test.
    fn skip(&self, what: &str) {
        static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test");
        let line = format!("skipped: {what} in {test}, for this PostgreSQL {} lacks it\n", self.major);
        if SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(line.clone()) {
            stderr().write_all(line.as_bytes()).expect("standard error");
        }
    }

    /// The languages, other than English, that the server's messages are translated into. None where it was built without.
    #[must_use]
    pub fn languages(&self) -> Vec<String> {
        if !self.configured.contains("--enable-nls") {
            self.skip("every language but English");
            return Vec::new();
        }
        let file = format!("LC_MESSAGES/postgres-{}.mo", self.major);
        let entries = fs::read_dir(&self.localedir).into_iter().flatten().flatten();
        let translated = entries.filter(|entry| entry.path().join(&file).exists());
        let mut languages: Vec<_> =
            translated.map(|entry| entry.file_name().into_string().expect("a language")).collect();
        languages.sort();
        assert!(
            !languages.is_empty(),
            "no translation of Postgres' messages is in {}: `make deps` installs them on Debian",
            self.localedir.display()
        );
        languages
    }

    /// Where the server looks for the scripts of extensions.
    #[must_use]
    pub fn extension_dir(&self) -> PathBuf {
        self.sharedir.join("extension")
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
