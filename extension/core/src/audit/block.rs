//! A block: the rows that were sealed together, in the order of org and id.
//!
//! The header is a text of twelve lines, which is what is signed, and what is kept elsewhere as a head:
//!
//! | line | content |
//! | --- | --- |
//! | 1 | [`LABEL`] |
//! | 2 | the chain: 16 random bytes in hex, chosen for its first block |
//! | 3 | the number of the block, from 0 |
//! | 4 | `sealed`, or `before` for rows from before the extension wrote MACs |
//! | 5 | when it was sealed, by the clock of the server |
//! | 6 | the number of its rows |
//! | 7 | the lowest and the highest id, and a blank between |
//! | 8 | SHA-256 over the ids in the order of the leaves, each as eight bytes, big-endian |
//! | 9 | the root of the tree over its leaves |
//! | 10 | the hash of the block before: SHA-256 over its header; zeroes for the first block |
//! | 11 | the id of the keyring's key that the signing key is derived from |
//! | 12 | the public key, of Ed25519 |
//!
//! Hashes and keys are in hex, and every line ends with a newline. A block whose key differs from the key of
//! the block before also has an endorsement: a signature of the same text by that earlier key. So a verifier
//! who trusts one head trusts all later blocks, and needs no key of the keyring.

use super::{Hash, derive, hash, merkle};
use crate::keyring::{Key, Keyring};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use std::str::FromStr;
use zeroize::Zeroizing;

/// The first line of a header.
pub const LABEL: &str = "integration_credentials audit block v1";
/// The label that a signing key is derived with.
pub const KEY_LABEL: &[u8] = b"integration_credentials audit block v1";
/// The most rows of a block.
pub const MAX_ROWS: usize = 1000;
/// The length of a signature, in bytes.
pub const SIGNATURE_BYTES: usize = 64;
/// The length of a chain's name, in bytes.
pub const CHAIN_BYTES: usize = 16;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The chain.
    pub chain: [u8; CHAIN_BYTES],
    /// The number in the chain.
    pub number: u64,
    /// Whether the rows are from before the extension wrote MACs.
    pub is_before: bool,
    /// When it was sealed.
    pub sealed_at: String,
    /// The number of rows.
    pub rows: u64,
    /// The lowest and the highest id.
    pub range: (i64, i64),
    /// The hash of the ids.
    pub ids: Hash,
    /// The root of the tree.
    pub root: Hash,
    /// The hash of the block before.
    pub previous: Hash,
    /// The id of the keyring's key.
    pub key_id: String,
    /// The public key.
    pub public_key: Hash,
}

/// A header with its signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The header, as text.
    pub text: String,
    /// By the key that the header names.
    pub signature: Vec<u8>,
    /// By the key of the block before, where that is another.
    pub endorsement: Option<Vec<u8>>,
}

/// Why a block is not the next one of its chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// The header has another form.
    #[error("its header is truncated, or has a form that this release does not know")]
    Malformed,
    /// Its signature is another's.
    #[error("its signature is not that of its header")]
    Signature,
    /// It does not continue the block before.
    #[error("it does not continue the block before it")]
    Previous,
    /// Its key is another, without a signature of the key before.
    #[error("its key is another than that of the block before it, which has not endorsed it")]
    Key,
}

impl Header {
    /// The header of the block that follows `last`, which has this hash, with rows of these ids and leaves, in the
    /// order of org and id. `chain` names a new chain.
    #[must_use]
    pub fn next(
        last: Option<(&Self, Hash)>,
        chain: [u8; CHAIN_BYTES],
        (ids, leaves): (&[i64], &[Hash]),
        (is_before, sealed_at): (bool, String),
        keyring: &Keyring,
    ) -> Self {
        let key = keyring.primary();
        Self {
            chain: last.map_or(chain, |(last, _)| last.chain),
            number: last.map_or(0, |(last, _)| last.number + 1),
            is_before,
            sealed_at,
            rows: ids.len() as u64,
            range: range(ids),
            ids: hash_of_ids(ids),
            root: merkle::root(leaves),
            previous: last.map_or_else(Hash::default, |(_, hash)| hash),
            key_id: key.id().to_owned(),
            public_key: signing_key(key).verifying_key().to_bytes(),
        }
    }

    /// Signs it with the primary key and, where the block before has another key that the keyring has, with
    /// that key too.
    #[must_use]
    pub fn sign(&self, keyring: &Keyring, last: Option<&Self>) -> Signed {
        let text = self.to_string();
        let signature = |key: &SigningKey| key.sign(text.as_bytes()).to_bytes().to_vec();
        let own = signing_key(keyring.primary());
        let earlier = last.filter(|last| last.public_key != self.public_key);
        let earlier = earlier.and_then(|last| keyring.find(&last.key_id).map(signing_key).zip(Some(last)));
        let earlier = earlier.filter(|(key, last)| key.verifying_key().to_bytes() == last.public_key);
        Signed { signature: signature(&own), endorsement: earlier.map(|(key, _)| signature(&key)), text }
    }

    /// Whether the lists of a block are those of its header.
    #[must_use]
    pub fn has(&self, ids: &[i64], leaves: &[Hash]) -> bool {
        self.rows == ids.len() as u64
            && ids.len() == leaves.len()
            && self.range == range(ids)
            && self.ids == hash_of_ids(ids)
            && self.root == merkle::root(leaves)
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_before { "before" } else { "sealed" };
        writeln!(f, "{LABEL}\n{}\n{}\n{kind}\n{}", hex(&self.chain), self.number, self.sealed_at)?;
        writeln!(f, "{}\n{} {}\n{}", self.rows, self.range.0, self.range.1, hex(&self.ids))?;
        writeln!(
            f,
            "{}\n{}\n{}\n{}",
            hex(&self.root),
            hex(&self.previous),
            self.key_id,
            hex(&self.public_key)
        )
    }
}

impl FromStr for Header {
    type Err = Break;

    fn from_str(text: &str) -> Result<Self, Break> {
        let lines: Vec<_> = text.lines().collect();
        let header = match lines.as_slice() {
            &[
                LABEL,
                chain,
                number,
                kind,
                sealed_at,
                rows,
                range,
                ids,
                root,
                previous,
                key_id,
                public_key,
            ] => {
                let (lowest, highest) = range.split_once(' ').ok_or(Break::Malformed)?;
                Self {
                    chain: from_hex(chain).ok_or(Break::Malformed)?,
                    number: parsed(number)?,
                    is_before: kind == "before",
                    sealed_at: sealed_at.to_owned(),
                    rows: parsed(rows)?,
                    range: (parsed(lowest)?, parsed(highest)?),
                    ids: from_hex(ids).ok_or(Break::Malformed)?,
                    root: from_hex(root).ok_or(Break::Malformed)?,
                    previous: from_hex(previous).ok_or(Break::Malformed)?,
                    key_id: key_id.to_owned(),
                    public_key: from_hex(public_key).ok_or(Break::Malformed)?,
                }
            }
            _ => return Err(Break::Malformed),
        };
        // One text for each header, so that equal headers have equal hashes.
        if header.to_string() == text { Ok(header) } else { Err(Break::Malformed) }
    }
}

impl Signed {
    /// The hash that the next block has of it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        hash(&[self.text.as_bytes()])
    }

    /// The header, if its signature is good.
    pub fn open(&self) -> Result<Header, Break> {
        let header: Header = self.text.parse()?;
        if !is_signed(&header.public_key, &self.text, &self.signature) {
            return Err(Break::Signature);
        }
        Ok(header)
    }

    /// The header, if its block follows `last`, or is the first one.
    pub fn follow(&self, last: Option<(&Header, &Hash)>) -> Result<Header, Break> {
        let header = self.open()?;
        let Some((last, hash)) = last else {
            let is_first = header.number == 0 && header.previous == Hash::default();
            return if is_first { Ok(header) } else { Err(Break::Previous) };
        };
        let follows = header.chain == last.chain
            && header.number == last.number + 1
            && header.previous == *hash
            // Rows from before the MACs come first.
            && (last.is_before || !header.is_before);
        if !follows {
            return Err(Break::Previous);
        }
        let endorses = |signature: &Vec<u8>| is_signed(&last.public_key, &self.text, signature);
        if header.public_key != last.public_key && !self.endorsement.as_ref().is_some_and(endorses) {
            return Err(Break::Key);
        }
        Ok(header)
    }
}

fn is_signed(key: &Hash, text: &str, signature: &[u8]) -> bool {
    let signature = Signature::from_slice(signature).ok();
    VerifyingKey::from_bytes(key)
        .ok()
        .zip(signature)
        .is_some_and(|(key, signature)| key.verify_strict(text.as_bytes(), &signature).is_ok())
}

fn signing_key(key: &Key) -> SigningKey {
    let mut seed = Zeroizing::new(Hash::default());
    derive(key, KEY_LABEL, &mut seed);
    SigningKey::from_bytes(&seed)
}

fn range(ids: &[i64]) -> (i64, i64) {
    let lowest = ids.iter().min().copied().unwrap_or_default();
    (lowest, ids.iter().max().copied().unwrap_or_default())
}

fn hash_of_ids(ids: &[i64]) -> Hash {
    hash(&[ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>().as_slice()])
}

fn parsed<T: FromStr>(text: &str) -> Result<T, Break> {
    text.parse().map_err(|_| Break::Malformed)
}

/// Bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// So many bytes from lower-case hex.
#[must_use]
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, &[high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(high)? << 4 | digit(low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Row, leaf, mac};
    use proptest::prelude::*;

    fn block(keyring: &Keyring, last: Option<(&Header, &Signed)>, is_before: bool) -> (Header, Signed) {
        let (ids, leaves) = ([3, 9, 4], [[1; 32], [2; 32], [3; 32]]);
        let at = "2026-11-29T23:55:47.123Z".to_owned();
        let before = last.map(|(last, signed)| (last, signed.hash()));
        let header = Header::next(before, [7; CHAIN_BYTES], (&ids, &leaves), (is_before, at), keyring);
        assert!(header.has(&ids, &leaves) && header.range == (3, 9));
        assert!(!header.has(&[9, 3, 4], &leaves) && !header.has(&ids, &leaves[..2]));
        let signed = header.sign(keyring, last.map(|(last, _)| last));
        (header, signed)
    }

    fn follow(next: &Signed, last: &(Header, Signed)) -> Result<Header, Break> {
        next.follow(Some((&last.0, &last.1.hash())))
    }

    #[test]
    fn a_chain_goes_on_over_a_rotation_of_the_key() {
        let mut keyring = Keyring::generate().unwrap();
        let first = block(&keyring, None, true);
        assert_eq!(first.1.follow(None).as_ref(), Ok(&first.0));
        let second = block(&keyring, Some((&first.0, &first.1)), false);
        assert_eq!(follow(&second.1, &first).as_ref(), Ok(&second.0));
        let new = keyring.add_key().unwrap().to_owned();
        keyring.use_key(&new).unwrap();
        let third = block(&keyring, Some((&second.0, &second.1)), false);
        assert!(third.1.endorsement.is_some());
        assert_eq!(follow(&third.1, &second).as_ref(), Ok(&third.0));
    }

    #[test]
    fn what_does_not_follow_is_named() {
        let keyring = Keyring::generate().unwrap();
        let first = block(&keyring, None, false);
        let second = block(&keyring, Some((&first.0, &first.1)), false);
        let third = block(&keyring, Some((&second.0, &second.1)), false);
        assert_eq!(third.1.follow(None), Err(Break::Previous));
        assert_eq!(follow(&third.1, &first), Err(Break::Previous));
        let before = block(&keyring, Some((&first.0, &first.1)), true);
        assert_eq!(follow(&before.1, &first), Err(Break::Previous));

        // Another keyring, with or without a key of the same id.
        let other = block(&Keyring::generate().unwrap(), Some((&first.0, &first.1)), false);
        assert_eq!(other.1.endorsement, None);
        assert_eq!(follow(&other.1, &first), Err(Break::Key));
        let document = |byte: &str| {
            let key = byte.repeat(43);
            format!(r#"{{"version":1,"primary":"a","keys":[{{"id":"a","key":"{key}="}}]}}"#)
        };
        let [one, two] = ["A", "E"].map(|byte| Keyring::parse(document(byte).as_bytes()).unwrap());
        let first = block(&one, None, false);
        let forged = block(&two, Some((&first.0, &first.1)), false);
        assert_eq!(follow(&forged.1, &first), Err(Break::Key));

        let text = second.1.text.replace("\n3\n", "\n2\n");
        let altered = Signed { text, ..second.1.clone() };
        assert_eq!(altered.open(), Err(Break::Signature));
    }

    /// The vector of `docs/audit.md`: a keyring, three rows, their MACs and leaves, and their block.
    #[test]
    fn the_vector_is_reproduced() {
        let vector: serde_json::Value =
            serde_json::from_str(include_str!("../../vectors/audit.json")).unwrap();
        let keyring = Keyring::parse(vector["keyring"].to_string().as_bytes()).unwrap();
        let (mut ids, mut leaves) = (Vec::new(), Vec::new());
        for row in vector["rows"].as_array().unwrap() {
            let text = |name: &str| row[name].as_str().unwrap();
            let names = ["orgSlug", "actor", "sessionRole", "actingRole", "action", "targetType", "targetId"];
            let (id, created_at) =
                (row["id"].as_i64().unwrap(), row["microsecondsSince2000"].as_i64().unwrap());
            let texts = names.map(|name| text(name).as_bytes());
            let digest = Row { id, texts, metadata: text("metadata").as_bytes(), created_at }.digest();
            let mac = mac(&keyring, &digest).unwrap();
            assert_eq!([hex(&digest), hex(&mac)], ["digest", "mac"].map(text));
            let leaf = leaf(&digest, &mac);
            assert_eq!(hex(&leaf), text("leaf"));
            ids.push(id);
            leaves.push(leaf);
        }
        let at = vector["sealedAt"].as_str().unwrap().to_owned();
        let header = Header::next(None, [7; CHAIN_BYTES], (&ids, &leaves), (false, at), &keyring);
        let signed = header.sign(&keyring, None);
        assert_eq!(signed.text, vector["header"]);
        assert_eq!(hex(&signed.signature), vector["signature"]);
        assert_eq!(hex(&signed.hash()), vector["hash"]);
        let path: Vec<_> = merkle::prove(&leaves, 1).iter().map(|hash| hex(hash)).collect();
        assert_eq!(serde_json::json!(path), vector["proofOfTheSecondRow"]);
        assert_eq!(signed.follow(None), Ok(header));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_or_a_cut_is_an_error(at in any::<prop::sample::Index>(), bit in 0..7u32) {
            let (_, signed) = block(&Keyring::generate().unwrap(), None, false);
            let mut text = signed.text.clone().into_bytes();
            let at = at.index(text.len());
            text[at] ^= 1 << bit;
            let altered = Signed { text: String::from_utf8(text).unwrap(), ..signed.clone() };
            prop_assert!(altered.open().is_err());
            let cut = Signed { text: signed.text[..at].to_owned(), ..signed };
            prop_assert_eq!(cut.open(), Err(Break::Malformed));
        }

        #[test]
        fn noise_never_panics(noise in "\\PC{0,300}", signature in prop::collection::vec(any::<u8>(), 0..80)) {
            let signed = Signed { text: format!("{LABEL}\n{noise}"), signature, endorsement: None };
            prop_assert!(signed.follow(None).is_err());
        }
    }
}
