//! Reading a file that may hold a password.

use crate::bounded_read::read_bounded;
use std::{fs::File, io, mem::take, path::Path};
use zeroize::{Zeroize, Zeroizing};

/// Far more than a password file or a service file needs.
const MAX_BYTES: usize = 1 << 20;

/// Reads all of a file.
pub(super) fn read_bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let bytes = read_bounded(File::open(path)?, MAX_BYTES)?;
    if bytes.len() > MAX_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("the file has more than {MAX_BYTES} bytes"),
        ));
    }
    Ok(bytes)
}

/// Reads all of a file that has to be UTF-8.
pub(super) fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = read_bytes(path)?;
    String::from_utf8(take(&mut *bytes)).map(Zeroizing::new).map_err(|error| {
        error.into_bytes().zeroize();
        io::Error::new(io::ErrorKind::InvalidData, "the file is not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_beyond_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pgpass");
        fs::write(&path, vec![b'a'; MAX_BYTES]).unwrap();
        assert_eq!(read_text(&path).unwrap().len(), MAX_BYTES);
        fs::write(&path, vec![b'a'; MAX_BYTES + 1]).unwrap();
        assert_eq!(read_text(&path).unwrap_err().to_string(), "the file has more than 1048576 bytes");
    }
}
