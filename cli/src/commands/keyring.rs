//! `intcred keyring`: the keyring file of the server. Needs no database.

use crate::{cli, cli_error::CliError, context::Context};
use intcred::internal::read_bounded;
use integration_credentials_core::keyring::{Keyring, MAX_DOCUMENT_BYTES};
use serde_json::json;
use std::{
    fs::{File, Metadata, OpenOptions, Permissions, remove_file},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::Path,
};

pub fn run(context: &Context, command: cli::Keyring) -> Result<(), CliError> {
    let (path, keyring) = match command {
        cli::Keyring::Generate { out } => {
            let keyring = generate(&out)?;
            (out, keyring)
        }
        cli::Keyring::Add { file } => {
            let keyring = add(&file)?;
            (file, keyring)
        }
    };
    let keys: Vec<_> = keyring.key_ids().collect();
    let result = json!({"file": path, "primary": keyring.primary_id(), "keys": keys});
    context.output.print(&result, |_| {
        format!("{}: {} key(s), encrypting with {}", path.display(), keys.len(), keyring.primary_id())
    })
}

/// Creates a keyring, and never overwrites a file.
fn generate(path: &Path) -> Result<Keyring, CliError> {
    let (file, keyring) = (at(path), malformed(path));
    let new = Keyring::generate().map_err(&keyring)?;
    let document = new.to_document().map_err(&keyring)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut created = created.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CliError::usage(
            format!("{} already exists", path.display()),
            "to add a key, use `intcred keyring add`",
        ),
        _ => file(error),
    })?;
    let written = created.write_all(document.as_bytes()).and_then(|()| created.sync_all());
    written.and_then(|()| sync_directory(parent(path))).map_err(|error| {
        // The server must not find an incomplete keyring.
        let _ = remove_file(path);
        file(error)
    })?;
    Ok(new)
}

/// Adds a key to a keyring, and replaces the file atomically.
fn add(path: &Path) -> Result<Keyring, CliError> {
    let (file, keyring) = (at(path), malformed(path));
    // Replaces the target of a link, not the link.
    let path = &path.canonicalize().map_err(&file)?;
    // Concurrent calls must not lose each other's key.
    let directory = File::open(parent(path)).map_err(&file)?;
    directory.lock().map_err(&file)?;

    let old = File::open(path).map_err(&file)?;
    let metadata = old.metadata().map_err(&file)?;
    let document = read_bounded(old, MAX_DOCUMENT_BYTES).map_err(&file)?;
    let mut new = Keyring::parse(&document).map_err(&keyring)?;
    new.add_key().map_err(&keyring)?;
    let document = new.to_document().map_err(&keyring)?;

    // Created with mode 600, and removed after an error.
    let mut temporary = tempfile::NamedTempFile::new_in(parent(path)).map_err(&file)?;
    fchown(temporary.as_file(), Some(metadata.uid()), Some(metadata.gid())).map_err(&file)?;
    temporary.write_all(document.as_bytes()).map_err(&file)?;
    temporary.as_file().set_permissions(Permissions::from_mode(mode(&metadata))).map_err(&file)?;
    temporary.as_file().sync_all().map_err(&file)?;
    temporary.persist(path).map_err(|error| file(error.error))?;
    directory.sync_all().map_err(&file)?;
    Ok(new)
}

/// 600 or, for a file of root that the group may read, 640: the server may be in that group.
fn mode(old: &Metadata) -> u32 {
    let group = if old.uid() == 0 { old.mode() & 0o040 } else { 0 };
    0o600 | group
}

fn at(path: &Path) -> impl Fn(io::Error) -> CliError {
    move |source| CliError::File { path: path.to_owned(), source }
}

fn malformed(path: &Path) -> impl Fn(integration_credentials_core::keyring::KeyringError) -> CliError {
    move |source| CliError::Keyring { path: path.to_owned(), source }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes a new file name durable.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    #[test]
    fn a_keyring_is_made_once_and_only_grows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keyring.json");
        let first = generate(&path).unwrap();
        assert!(generate(&path).is_err());

        let link = directory.path().join("link");
        symlink(&path, &link).unwrap();
        let second = add(&link).unwrap();
        assert_ne!(first.primary_id(), second.primary_id());
        let read_back = Keyring::parse(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read_back.primary_id(), second.primary_id());
        assert_eq!(read_back.key_ids().collect::<Vec<_>>(), [first.primary_id(), second.primary_id()]);

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
