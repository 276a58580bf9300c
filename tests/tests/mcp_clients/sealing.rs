//! The script of the page seals as the server opens: the very script, in Chromium.

use crate::browser::Browser;
use base64::{Engine, engine::general_purpose::STANDARD};
use integration_credentials_core::{
    keyring::Keyring,
    limits::DEFAULT_VALUE_CHARS,
    seal::{self, Terms, sealing_key},
};
use serde_json::{Value, json};
use std::iter;
use tempfile::TempDir;

const PAGE: &str = concat!("file://", env!("CARGO_MANIFEST_DIR"), "/../cli/src/mcp/page/page.html");

/// Seals with the encapsulated key of the vector. Its secret is unknown, but who opens the vector agrees on the same one.
const AGAIN: &str = "async (vector) => {
    const bytes = (hex) => Uint8Array.from(hex.match(/../g), (pair) => parseInt(pair, 16));
    const kem = kdf(concat(utf8('KEM'), [0, 32]));
    const material = concat(utf8(vector.info), [0], Uint8Array.from(atob(vector.keyring.keys[0].key), (byte) => byte.charCodeAt(0)));
    const secret = await kem.expand(await kem.extract('dkp_prk', material), 'sk', [], 32);
    const form = concat(bytes('302e020100300506032b656e04220420'), secret);
    const opener = await crypto.subtle.importKey('pkcs8', form, 'X25519', false, ['deriveBits']);
    const start = 2 + utf8(vector.key_id).length + 8;
    const encapsulated = bytes(vector.sealed).slice(start, start + 32);
    const known = await crypto.subtle.importKey('raw', encapsulated, 'X25519', false, []);
    const agreed = await crypto.subtle.deriveBits({name: 'X25519', public: known}, opener, 256);
    crypto.subtle.generateKey = async () => ({});
    crypto.subtle.exportKey = async () => encapsulated;
    crypto.subtle.deriveBits = async () => agreed;
    const to = {form: 2, org: vector.org, role: vector.role, issuedAt: vector.issued_at, keyId: vector.key_id,
        publicKey: btoa(String.fromCharCode(...bytes(vector.public_key)))};
    const sealed = await seal(to, vector.key, vector.value);
    return Array.from(sealed, (byte) => byte.toString(16).padStart(2, '0')).join('');
}";

const SEAL: &str = "async ({to, key, values}) => {
    const sealed = [];
    for (const value of values) sealed.push(btoa(Array.from(await seal(to, key, value), (byte) => String.fromCharCode(byte)).join('')));
    return sealed;
}";

async fn page(folder: &TempDir) -> Browser {
    let mut browser = Browser::start(&folder.path().join("profile")).await;
    browser.open(PAGE).await;
    browser
}

#[tokio::test]
async fn published_vector_is_sealed_byte_for_byte() {
    let vector: Value =
        serde_json::from_str(include_str!("../../../extension/core/vectors/sealed-value.json")).unwrap();
    let folder = TempDir::new().unwrap();
    let mut page = page(&folder).await;
    assert_eq!(page.evaluate(&format!("({AGAIN})({vector})")).await, vector["sealed"]);
}

#[tokio::test]
async fn values_of_every_length_of_a_block_open() {
    let terms = Terms { org: "Grüße 😀", key: "schlüssel", role: "alice" };
    let (keyring, now) = (Keyring::generate().unwrap(), 1_764_000_000);
    let key = sealing_key(&keyring);
    let to = json!({"form": seal::VERSION, "org": terms.org, "role": terms.role, "issuedAt": now,
        "keyId": key.id, "publicKey": STANDARD.encode(key.public)});
    let long = "😀".repeat(DEFAULT_VALUE_CHARS);
    let mut values: Vec<_> =
        (1..=130).map(|length| iter::repeat_with(fastrand::alphanumeric).take(length).collect()).collect();
    values.extend(["Zoë's\n\"😀\"\n\n".to_owned(), long]);
    let folder = TempDir::new().unwrap();
    let mut page = page(&folder).await;
    let sealed =
        page.evaluate(&format!("({SEAL})({})", json!({"to": to, "key": terms.key, "values": values}))).await;
    let sealed = sealed.as_array().unwrap();
    assert_eq!(sealed.len(), values.len());
    for (sealed, value) in sealed.iter().zip(&values) {
        let sealed = STANDARD.decode(sealed.as_str().unwrap()).unwrap();
        assert_eq!(*seal::open(&keyring, terms, now, &sealed).unwrap(), *value);
    }
}
