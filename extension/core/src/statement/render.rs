//! The text without its secrets.

use super::Secrets;
use crate::redact::REDACTED;

impl Secrets {
    /// The text with `<redacted>` in place of each secret.
    #[must_use]
    pub fn redacted(&self, text: &[u8]) -> Vec<u8> {
        let mut redacted = Vec::with_capacity(text.len());
        let mut kept_to = 0;
        for span in &self.spans {
            redacted.extend_from_slice(text.get(kept_to..span.range.start).unwrap_or_default());
            redacted.extend_from_slice(REDACTED.as_bytes());
            kept_to = span.range.end;
        }
        redacted.extend_from_slice(text.get(kept_to..).unwrap_or_default());
        redacted
    }

    /// Overwrites the secrets where they stand. The text keeps its length and its tokens, so that positions in it stay
    /// right. Doing so twice changes nothing.
    pub fn mask(&self, text: &mut [u8]) {
        for span in &self.spans {
            let Some(secret) = text.get_mut(span.range.clone()) else { continue };
            secret.fill(span.filler);
            if span.filler == b'*'
                && let Some(start) = secret.get_mut(..REDACTED.len())
            {
                start.copy_from_slice(REDACTED.as_bytes());
            }
        }
    }

    /// Whether masking changes nothing.
    #[must_use]
    pub fn is_masked(&self, text: &[u8]) -> bool {
        let mut masked = text.to_vec();
        self.mask(&mut masked);
        masked == text
    }

    /// What is secret, as it is written.
    pub fn values<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.spans.iter().filter_map(|span| text.get(span.range.clone()))
    }
}
