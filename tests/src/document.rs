//! The parts of the documents that tests write.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Tests run concurrently, and some write into one file.
static WRITING: Mutex<()> = Mutex::new(());

/// The repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository").to_owned()
}

/// A file of the repository.
#[must_use]
pub fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Panics unless the part `name` of a document is `text`. With `GENERATE_DOCS` set, as by `make generate`,
/// writes the part.
pub fn assert_generated(file: &str, name: &str, text: &str) {
    let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
    let (begin, end) = (format!("<!-- generated: {name} -->\n"), "\n<!-- /generated -->");
    let document = read(file);
    let (before, rest) =
        document.split_once(&begin).unwrap_or_else(|| panic!("{file} has no part {name}: {begin}"));
    let (part, after) =
        rest.split_once(end).unwrap_or_else(|| panic!("the part {name} of {file} has no end"));
    if part == text {
        return;
    }
    if env::var_os("GENERATE_DOCS").is_some() {
        fs::write(root().join(file), [before, &begin, text, end, after].concat()).expect("it can be written");
    } else {
        panic!("{file} is stale: run `make generate`. The part {name} is to be:\n\n{text}");
    }
}
