//! The one place where code that Postgres' hooks run allocates: once, as much as it will ever need, and it may be refused.

use crate::sql_text::Dropped;

/// Bytes that never take more memory than they were given.
#[derive(Debug)]
pub struct Buffer(Vec<u8>);

impl Buffer {
    /// An empty one.
    pub fn with_room(bytes: usize) -> Result<Self, Dropped> {
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).map_err(|_| Dropped::NoMemory)?;
        Ok(Self(buffer))
    }

    /// Appends a text that there is room for.
    pub fn push(&mut self, text: &[u8]) -> Result<(), Dropped> {
        if self.0.capacity() - self.0.len() < text.len() {
            return Err(Dropped::TooLong);
        }
        self.0.extend_from_slice(text);
        Ok(())
    }

    /// What is in it.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
