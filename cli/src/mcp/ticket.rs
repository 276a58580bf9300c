//! What a link carries, and what a client hands back when it asks again: encrypted, authentic, and for one caller.
//!
//! A ticket is no login. A ticket names the entry, the caller who asked for the entry, and the revision of the row then.
//! So a used ticket is dead on every replica: the row has another revision.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use intcred::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};
use zeroize::Zeroizing;

/// How long a link is good.
pub const LIFETIME: Duration = Duration::from_mins(10);
/// How often a client may ask again.
pub const LEGS: u8 = 8;
const VERSION: &[u8] = b"intcred mcp ticket v1";
const NONCE_BYTES: usize = 24;
/// Longer than any ticket, so that no one makes the server decrypt more.
const MAX_CHARS: usize = 8 << 10;

/// An entry that a caller has asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// The caller's role.
    pub role: String,
    pub org: String,
    /// The integration.
    pub key: String,
    /// Of the row when it was asked for.
    pub revision: i64,
    pub asked_at: Timestamp,
    /// How often the client has asked already; 0 for the link itself.
    pub leg: u8,
}

/// Why a ticket is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// Altered, made by a server with another pepper, or no ticket at all.
    Forged,
    Expired,
}

impl Ticket {
    pub fn expires_at(&self) -> Timestamp {
        Timestamp(self.asked_at.0 + LIFETIME)
    }

    /// The same entry, as a client asks for it the next time.
    pub fn next_leg(&self) -> Option<Self> {
        (self.leg < LEGS).then(|| Self { leg: self.leg + 1, ..self.clone() })
    }

    /// The same entry, as the link has it.
    pub fn for_link(&self) -> Self {
        Self { leg: 0, ..self.clone() }
    }
}

/// Makes tickets, and opens them.
pub struct Tickets(XChaCha20Poly1305);

impl Tickets {
    pub fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self(XChaCha20Poly1305::new((&**key).into()))
    }

    /// The ticket as a text for a URL; `None` without random bytes.
    pub fn seal(&self, ticket: &Ticket) -> Option<String> {
        let mut sealed = vec![0; NONCE_BYTES];
        getrandom::fill(&mut sealed).ok()?;
        let text = serde_json::to_vec(ticket).ok()?;
        let nonce = XNonce::try_from(sealed.as_slice()).ok()?;
        sealed.extend(self.0.encrypt(&nonce, Payload { msg: &text, aad: VERSION }).ok()?);
        Some(URL_SAFE_NO_PAD.encode(sealed))
    }

    pub fn open(&self, text: &str, now: SystemTime) -> Result<Ticket, Invalid> {
        let ticket = self.decrypt(text).ok_or(Invalid::Forged)?;
        if ticket.expires_at().0 < now { Err(Invalid::Expired) } else { Ok(ticket) }
    }

    fn decrypt(&self, text: &str) -> Option<Ticket> {
        if text.len() > MAX_CHARS {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        let text = self.0.decrypt(&nonce, Payload { msg: ciphertext, aad: VERSION }).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            role: "icred_abcdefghij".into(),
            org: "acme".into(),
            key: "😀".repeat(255),
            revision: 7,
            asked_at: Timestamp(SystemTime::UNIX_EPOCH + Duration::from_hours(1)),
            leg: 0,
        }
    }

    #[test]
    fn a_ticket_is_read_back_until_it_expires() {
        let tickets = Tickets::new(&[7; 32].into());
        let text = tickets.seal(&ticket()).unwrap();
        assert!(text.len() < MAX_CHARS && text != tickets.seal(&ticket()).unwrap());
        let ends = ticket().expires_at().0;
        assert_eq!(tickets.open(&text, ends), Ok(ticket()));
        assert_eq!(tickets.open(&text, ends + Duration::from_millis(1)), Err(Invalid::Expired));
    }

    #[test]
    fn an_altered_or_foreign_ticket_is_refused() {
        let tickets = Tickets::new(&[7; 32].into());
        let text = tickets.seal(&ticket()).unwrap();
        let now = ticket().asked_at.0;
        assert_eq!(Tickets::new(&[8; 32].into()).open(&text, now), Err(Invalid::Forged));
        for at in 0..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            // The last character has bits that decode to nothing.
            let opened = tickets.open(&other, now);
            assert!(opened == Err(Invalid::Forged) || (at + 1 == text.len() && opened.is_ok()), "{at}");
        }
        for other in ["", "A", &text[1..], &text[..40], &"A".repeat(MAX_CHARS + 1)] {
            assert_eq!(tickets.open(other, now), Err(Invalid::Forged));
        }
    }

    #[test]
    fn a_client_asks_eight_times_at_most() {
        let legs = std::iter::successors(Some(ticket()), Ticket::next_leg);
        assert_eq!(legs.count(), 1 + usize::from(LEGS));
    }
}
