//! The only allocation of code in Postgres' hooks: once, of the full size, and fallible.

use crate::sql_text::Dropped;

/// Bytes that never exceed their first allocation.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty buffer.
    pub fn with_room(bytes: usize) -> Result<Self, Dropped> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).map_err(|_| Dropped::NoMemory)?;
        Ok(Self(buffer))
    }

    /// Appends a text; an error where it does not fit.
    pub fn push(&mut self, text: &[u8]) -> Result<(), Dropped> {
        if self.0.capacity() - self.0.len() < text.len() {
            return Err(Dropped::TooLong);
        }
        self.0.extend_from_slice(text);
        Ok(())
    }

    /// Its content.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
