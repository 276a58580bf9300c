//! Reading a file that may hold a password.

use std::{
    fs::File,
    io::{self, Read},
    mem::take,
    path::Path,
};
use zeroize::{Zeroize, Zeroizing};

/// Reads all of a file, and leaves no copy of it behind.
pub(super) fn read_bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut file = File::open(path)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    // A byte more, in which the end of the file is found: growing would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The same of a file that has to be text.
pub(super) fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = read_bytes(path)?;
    String::from_utf8(take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")
    })
}
