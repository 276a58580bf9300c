//! The keyring file, and the archive of its retired keys beside it. Both are only ever replaced whole.

use crate::cli_error::CliError;
use intcred::internal::read_bounded;
use integration_credentials_core::{
    archive::Archive,
    keyring::{Keyring, KeyringError, MAX_DOCUMENT_BYTES},
};
use std::{
    ffi::OsString,
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Creates a keyring, and never overwrites a file.
pub fn generate(path: &Path) -> Result<Keyring, CliError> {
    let new = Keyring::generate().map_err(malformed(path))?;
    let document = new.to_document().map_err(malformed(path))?;
    let create = || {
        let directory = File::open(parent(path))?;
        directory.lock()?;
        // The server must not find an incomplete keyring. A second link, unlike a rename, overwrites nothing.
        let temporary = Temporary::write(path, &document, |_| Ok(()))?;
        fs::hard_link(&temporary.0, path)?;
        drop(temporary);
        directory.sync_all()
    };
    create().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::usage(
            format!("{} already exists", path.display()),
            "to add a key, use `intcred keyring add`",
        ),
        _ => at(path)(error),
    })?;
    Ok(new)
}

/// The next content of a file, in a file beside it, which is removed when dropped. The name is always the same:
/// what a call that was killed leaves behind, with a key in it, is removed by the next call.
struct Temporary(PathBuf);

impl Temporary {
    /// Writes it durably, readable by its owner alone until `prepare` decides otherwise.
    fn write(path: &Path, document: &str, prepare: impl FnOnce(&File) -> io::Result<()>) -> io::Result<Self> {
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let temporary = Self(parent(path).join(name));
        match fs::remove_file(&temporary.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary.0)?;
        file.write_all(document.as_bytes())?;
        prepare(&file)?;
        file.sync_all()?;
        Ok(temporary)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Gone already, where it has replaced the file.
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads a keyring.
pub fn read(path: &Path) -> Result<Keyring, CliError> {
    Keyring::parse(&document(path)?.0).map_err(malformed(path))
}

/// Reads the archive of a keyring; without one, no key was retired.
pub fn read_archive(path: &Path) -> Result<Archive, CliError> {
    let archive = archive_path(path);
    match document(&archive) {
        Ok((document, _)) => Archive::parse(&document).map_err(malformed(&archive)),
        Err(CliError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            Ok(Archive::default())
        }
        Err(error) => Err(error),
    }
}

/// `FILE.retired`
fn archive_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".retired");
    name.into()
}

fn document(path: &Path) -> Result<(Zeroizing<Vec<u8>>, Metadata), CliError> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(at(path))?;
    Ok((read_bounded(file, MAX_DOCUMENT_BYTES).map_err(at(path))?, metadata))
}

/// A keyring that no other call of `intcred` changes at the same time.
pub struct Locked {
    /// The keyring, to be changed and then written.
    pub keyring: Keyring,
    path: PathBuf,
    metadata: Metadata,
    directory: File,
}

impl Locked {
    /// Waits for other calls that change a file of this directory, and reads the keyring.
    pub fn open(path: &Path) -> Result<Self, CliError> {
        // The target of a link is replaced, not the link.
        let path = path.canonicalize().map_err(at(path))?;
        let directory = File::open(parent(&path)).map_err(at(&path))?;
        directory.lock().map_err(at(&path))?;
        let (document, metadata) = document(&path)?;
        let keyring = Keyring::parse(&document).map_err(malformed(&path))?;
        Ok(Self { keyring, path, metadata, directory })
    }

    /// The archive beside the keyring.
    pub fn archive(&self) -> Result<Archive, CliError> {
        read_archive(&self.path)
    }

    /// Replaces the keyring.
    pub fn write(&self) -> Result<(), CliError> {
        self.replace(&self.path, &self.keyring.to_document().map_err(malformed(&self.path))?)
    }

    /// Replaces the archive.
    pub fn write_archive(&self, archive: &Archive) -> Result<(), CliError> {
        let path = archive_path(&self.path);
        self.replace(&path, &archive.to_document().map_err(malformed(&path))?)
    }

    /// Replaces a file atomically and durably. Owner and permissions are those of the keyring.
    fn replace(&self, path: &Path, document: &str) -> Result<(), CliError> {
        let replace = || {
            let temporary = Temporary::write(path, document, |file| {
                fchown(file, Some(self.metadata.uid()), Some(self.metadata.gid()))?;
                file.set_permissions(Permissions::from_mode(mode(&self.metadata)))
            })?;
            fs::rename(&temporary.0, path)?;
            self.directory.sync_all()
        };
        replace().map_err(at(path))
    }
}

/// 600 or, for a file of root that the group may read, 640: the server may be in that group.
fn mode(old: &Metadata) -> u32 {
    let group = if old.uid() == 0 { old.mode() & 0o040 } else { 0 };
    0o600 | group
}

fn at(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::File { path: path.to_owned(), source }
}

pub fn malformed(path: &Path) -> impl Fn(KeyringError) -> CliError {
    move |source| CliError::Keyring { path: path.to_owned(), source }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn add(path: &Path) -> Result<Keyring, CliError> {
        let mut locked = Locked::open(path)?;
        locked.keyring.add_key().map_err(malformed(path))?;
        locked.write()?;
        Ok(locked.keyring)
    }

    #[test]
    fn a_keyring_is_made_once_and_only_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let first = generate(&path).unwrap();
        assert!(generate(&path).is_err());

        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        let second = add(&link).unwrap();
        let read_back = read(&path).unwrap();
        assert_eq!(read_back.primary_id(), first.primary_id());
        let added = second.key_ids().last().unwrap();
        assert_eq!(read_back.key_ids().collect::<Vec<_>>(), [first.primary_id(), added]);

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_of_root_stays_its_groups_to_read_and_another_becomes_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        generate(&path).unwrap();
        let is_roots = fs::metadata(&path).unwrap().uid() == 0;
        for (before, roots) in
            [(0o640, 0o640), (0o440, 0o640), (0o600, 0o600), (0o664, 0o640), (0o604, 0o600)]
        {
            fs::set_permissions(&path, Permissions::from_mode(before)).unwrap();
            add(&path).unwrap();
            let after = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(after, if is_roots { roots } else { 0o600 }, "{before:o}");
        }
    }

    #[test]
    fn what_is_no_keyring_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        assert!(add(&path).is_err());
        fs::write(&path, "hello").unwrap();
        assert!(add(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"hello");
    }
}
