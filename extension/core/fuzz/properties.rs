//! What holds for any input, for the fuzzer to try, and for `tests/corpus.rs` to try again with what it has found.
//!
//! A function panics when its property does not hold. An input for two texts has the byte 255, which is in no UTF-8 text,
//! between them; an input that is not of the form that a property is about says nothing.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use integration_credentials_core::{
    envelope::{self, Place, Purpose},
    keyring::Keyring,
    limits::MAX_VALUE_CHARS,
    redact::{MAX_REASON_CHARS, REDACTED, reason, redact as redacted},
    rules::Rules,
    seal,
    sql_text::{self, Dropped, MAX_BYTES},
};
use serde::de::IgnoredAny;
use serde_json::Value;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    str::from_utf8,
    sync::LazyLock,
    thread,
};

/// Panics when it does not hold for the input.
type Property = fn(&[u8]);

/// Each property, under the name of its target and its folder of the corpus.
pub const PROPERTIES: [(&str, Property); 6] = [
    ("envelope", envelope),
    ("sealed", sealed),
    ("keyring", keyring),
    ("redact", redact),
    ("rules", rules),
    ("sql_text", sql_text),
];

/// The keyring of the published test vector.
static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    let vector: Value =
        serde_json::from_str(include_str!("../vectors/sealed-value.json")).expect("the vector is JSON");
    Keyring::parse(vector["keyring"].to_string().as_bytes()).expect("the vector has a keyring")
});

/// Whatever lies in the table, decrypting it does not panic. And what is altered (the first two bytes say where, the
/// third how) never authenticates.
pub fn envelope(input: &[u8]) {
    let place = Place { purpose: Purpose::Credential, org: "acme", key: "slack" };
    let _ = envelope::decrypt(&KEYRING, place, input);

    let Some((&[high, low, change], text)) = input.split_first_chunk() else { return };
    let Ok(text) = from_utf8(text) else { return };
    let mut envelope = envelope::encrypt(&KEYRING, place, text).expect("any text can be encrypted");
    let at = usize::from(u16::from_be_bytes([high, low])) % envelope.len();
    envelope[at] ^= change;
    match envelope::decrypt(&KEYRING, place, &envelope) {
        Ok(same) => assert!(change == 0 && *same == text),
        Err(_) => assert_ne!(change, 0),
    }
}

/// Whatever is sent as a sealed value, opening it does not panic, and what opens is no longer than it can be.
pub fn sealed(input: &[u8]) {
    let terms = seal::Terms { org: "acme", key: "slack", role: "alice" };
    // As if it had just been sealed, whenever it says it was.
    let now = input.get(9..17).and_then(|time| time.try_into().ok()).map_or(0, u64::from_be_bytes);
    if let Ok(value) = seal::open(&KEYRING, terms, now, input) {
        assert!(value.len() <= 4 * MAX_VALUE_CHARS);
    }
}

/// What can be read can be written, and read again as the same.
pub fn keyring(input: &[u8]) {
    let Ok(keyring) = Keyring::parse(input) else { return };
    let document = keyring.to_document().expect("a keyring can be written");
    let again = Keyring::parse(document.as_bytes()).expect("what was written can be read");
    assert_eq!(format!("{keyring:?}"), format!("{again:?}"));
    for id in keyring.key_ids() {
        assert_eq!(keyring.find(id).expect("an id").secret(), again.find(id).expect("an id").secret());
    }
}

/// No eight bytes in a row of a secret survive, nor a shorter secret, wherever and in whichever form it stands in the text.
pub fn redact(input: &[u8]) {
    let Some((text, secret)) = two_texts(input) else { return };
    let forms: Vec<String> = secrets(secret).iter().flat_map(|secret| forms(secret)).collect();
    let around = forms.iter().map(|form| format!("{text}{form}{text}"));
    for text in around.chain([text.to_owned(), format!("{text}{secret}")]) {
        let result = redacted(&text, secret);
        // What stands between two replacements is what was kept.
        for kept in result.to_ascii_lowercase().split(REDACTED) {
            for form in &forms {
                let form = form.to_ascii_lowercase();
                for window in form.as_bytes().windows(form.len().min(8)) {
                    let survives = kept.as_bytes().windows(window.len()).any(|seen| seen == window);
                    assert!(!survives, "{:?} of {form:?} in {result:?}", String::from_utf8_lossy(window));
                }
            }
        }
        assert!(reason(&text, secret).chars().count() <= MAX_REASON_CHARS);
    }
}

/// Rules compile or are refused, and then accept or refuse any value, without a panic and (libFuzzer has a time limit)
/// without a long wait.
pub fn rules(input: &[u8]) {
    let Some((declared, value)) = two_texts(input) else { return };
    if let Ok(rules) = Rules::compile(declared) {
        let _ = rules.check(value);
    }
}

/// What the hooks run keeps to a small stack and to the memory that it is meant to take; a text that is masked keeps its
/// length; and a literal value is hidden whatever stands around its call.
pub fn sql_text(input: &[u8]) {
    const STACK: usize = 64 * 1024;
    thread::scope(|scope| {
        let in_small = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || hides(input));
        in_small.expect("a thread").join().expect("the properties hold");
    });
}

fn hides(input: &[u8]) {
    let backslashes = input.first() == Some(&b'\\');
    let none = taken(|| {
        let _ = sql_text::names_one(input);
        let _ = sql_text::executes(input);
        let _ = sql_text::value_is_written(input, backslashes);
        let _ = sql_text::is_masked(input, backslashes);
        let _ = sql_text::is_node_tree(input);
    });
    assert_eq!(none, 0, "bytes are allocated to look at a text");

    let mut masked = input.to_vec();
    assert_eq!(taken(|| sql_text::mask(&mut masked, backslashes)), 0, "bytes are allocated to mask a text");
    assert_eq!(masked.len(), input.len());
    if sql_text::names_one(input) && !sql_text::names_one(&masked) {
        sql_text::blank(&mut masked);
        // A shorter text has no room for a call.
        assert!(sql_text::names_one(&masked) || masked.len() < "admin_set_integration_credentials".len());
    }

    let most = 2 * input.len() + 1024;
    let copied = taken(|| match sql_text::redacted(input, backslashes) {
        Ok(copy) => assert!(copy.len() <= most),
        Err(dropped) => assert!(dropped == Dropped::TooLong && input.len() > MAX_BYTES.min(256)),
    });
    assert!(copied <= most, "{copied} bytes are allocated for a copy");
    let _ = sql_text::without_inserts(input);
    let quoted = taken(|| drop(sql_text::without_cut_quotations(input, b"Process", 100, backslashes)));
    assert!(quoted <= 8 * input.len() + 4096, "{quoted} bytes are allocated for what is quoted");

    let Some((value, rest)) = two_texts(input) else { return };
    // A keyword, or a name of ours, stays.
    let is_long = |word: &&str| word.len() > 12 && !word.to_ascii_lowercase().contains("_credentials");
    let call = format!(
        "{rest} SELECT admin_set_integration_credentials('slack', '{}', 'me'){rest}",
        value.replace('\'', "''")
    );
    let mut masked = call.clone().into_bytes();
    sql_text::mask(&mut masked, backslashes);
    let copy = sql_text::redacted(call.as_bytes(), backslashes).unwrap_or_default();
    for hidden in [String::from_utf8_lossy(&masked), String::from_utf8_lossy(&copy)] {
        let words = value.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(is_long);
        for word in words {
            assert!(!hidden.contains(word) || "<redacted>".contains(word), "{word:?} in {hidden}");
        }
    }
}

/// The most bytes that this thread had at a time while it did something, beside those that it had before.
fn taken(work: impl FnOnce()) -> usize {
    let before = HELD.get();
    MOST.set(before);
    work();
    MOST.get().saturating_sub(before)
}

thread_local! {
    static HELD: Cell<usize> = const { Cell::new(0) };
    static MOST: Cell<usize> = const { Cell::new(0) };
}

/// The system's memory, counted for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: what the system's allocator is asked for is handed on as it is; the counters have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.set(HELD.get().wrapping_add(layout.size()));
        MOST.set(MOST.get().max(HELD.get()));
        // SAFETY: the caller's own request.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.set(HELD.get().wrapping_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn two_texts(input: &[u8]) -> Option<(&str, &str)> {
    let middle = input.iter().position(|&byte| byte == 255)?;
    Some((from_utf8(&input[..middle]).ok()?, from_utf8(&input[middle + 1..]).ok()?))
}

/// What of a credential is secret: all of it, or of a JSON document its texts of four bytes or more.
fn secrets(credential: &str) -> Vec<String> {
    fn texts(value: Value) -> Vec<String> {
        match value {
            Value::String(text) => vec![text],
            Value::Array(items) => items.into_iter().flat_map(texts).collect(),
            Value::Object(members) => members.into_iter().flat_map(|(_, member)| texts(member)).collect(),
            _ => Vec::new(),
        }
    }
    match serde_json::from_str(credential) {
        Ok(document @ (Value::Object(_) | Value::Array(_))) => {
            texts(document).into_iter().filter(|text| text.len() >= 4).collect()
        }
        // A document of which some number is too large for the parser is one, too.
        Err(_) if serde_json::from_str::<IgnoredAny>(credential).is_ok() => Vec::new(),
        _ if credential.is_empty() => Vec::new(),
        _ => vec![credential.to_owned()],
    }
}

/// Plain, quoted for SQL, escaped for JSON, in hex and in base64.
fn forms(secret: &str) -> [String; 5] {
    let escaped = Value::from(secret).to_string();
    [
        secret.to_owned(),
        secret.replace('\'', "''"),
        escaped[1..escaped.len() - 1].to_owned(),
        secret.bytes().map(|byte| format!("{byte:02X}")).collect(),
        STANDARD_NO_PAD.encode(secret),
    ]
}
