//! A random secret, and the search for it in any form.
//!
//! The search is for each window of eight of its characters, so it also finds half a canary, and a canary
//! with a line break. Base64 alignment needs no care: one window in three starts at a group. pglz, Postgres'
//! compression of long values, puts a control byte before eight literals. A random text has no repetitions to
//! compress, so windows stay as they are. Encrypted data, and data compressed into bits by zlib (as `pg_dump
//! -Fc` does), must be unpacked first.

use aho_corasick::AhoCorasick;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
};

const LENGTH: usize = 48;
const WINDOW: usize = 8;

/// The secret.
pub struct Canary {
    text: String,
    needles: Needles,
}

/// The search for one canary, or for many at once.
pub struct Needles {
    automaton: AhoCorasick,
    /// The canary and the form of each needle.
    of: Vec<(usize, Form)>,
}

/// How a secret was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As it is.
    Plain,
    /// `686e74`, in capital or small letters.
    Hex,
    /// Base64. Letters and digits give neither `+` nor `/`, so the URL alphabet looks the same.
    Base64,
    /// Numbers with a space, a comma, or both between them: the node trees of Postgres, JSON, Rust's `Debug`.
    Decimal,
    /// UTF-16, with either byte first.
    Utf16,
}

/// Where the secret was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The file.
    pub file: PathBuf,
    /// In which form.
    pub form: Form,
    /// Where the first of that form is.
    pub offset: usize,
}

impl Canary {
    /// A new secret of 48 letters and digits.
    #[must_use]
    pub fn new() -> Self {
        const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut random = [0; LENGTH];
        getrandom::fill(&mut random).expect("random bytes");
        Self::of(
            random.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect(),
        )
    }

    fn of(text: String) -> Self {
        Self { needles: Needles::of([text.as_str()], 1), text }
    }

    /// The secret itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Each form that is in `bytes`, and where the first of it is.
    #[must_use]
    pub fn find(&self, bytes: &[u8]) -> BTreeMap<Form, usize> {
        let mut found = BTreeMap::new();
        for (_, form, offset) in self.needles.find(bytes) {
            found.entry(form).or_insert(offset);
        }
        found
    }

    /// Searches a file, or all files below a directory. A running server has changes in memory only: run a
    /// CHECKPOINT first, or stop the server.
    #[must_use]
    pub fn search(&self, path: &Path) -> Vec<Hit> {
        // A running server removes files at any time.
        let read = if path.is_dir() { self.search_dir(path) } else { self.search_file(path) };
        match read {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        }
    }

    fn search_dir(&self, dir: &Path) -> std::io::Result<Vec<Hit>> {
        let mut hits = Vec::new();
        for entry in fs::read_dir(dir)? {
            hits.extend(self.search(&entry?.path()));
        }
        Ok(hits)
    }

    fn search_file(&self, file: &Path) -> std::io::Result<Vec<Hit>> {
        // Sockets and pipes hold nothing, and reading one may wait forever.
        if !fs::metadata(file)?.is_file() {
            return Ok(Vec::new());
        }
        let found = self.find(&fs::read(file)?);
        Ok(found.into_iter().map(|(form, offset)| Hit { file: file.into(), form, offset }).collect())
    }

    /// Panics if the secret is in what `Debug` shows: of an error with all its fields, of an
    /// [`crate::Output`], of a list of notices.
    #[track_caller]
    pub fn assert_absent(&self, shown: &impl Debug) {
        let shown = format!("{shown:?}");
        let found = self.find(shown.as_bytes());
        assert!(found.is_empty(), "the secret shows, {found:?}: {shown}");
    }
}

impl Needles {
    /// The search for all of these secrets at once: for every fifth window, which is fast, and still finds a
    /// secret at any alignment in base64 and pglz.
    #[must_use]
    pub fn of_all(canaries: &[&Canary]) -> Self {
        Self::of(canaries.iter().map(|canary| canary.as_str()), 5)
    }

    fn of<'a>(texts: impl IntoIterator<Item = &'a str>, step: usize) -> Self {
        let windows = texts.into_iter().enumerate().flat_map(|(index, text)| {
            text.as_bytes().windows(WINDOW).step_by(step).map(move |window| (index, window))
        });
        let needles =
            windows.flat_map(|(index, window)| written(window).map(|(form, it)| (it, (index, form))));
        let (needles, of): (Vec<_>, Vec<_>) = needles.unzip();
        Self { automaton: AhoCorasick::new(needles).expect("needles that fit into memory"), of }
    }

    /// Each hit: the index of the secret, its form, and the offset. Overlapping hits are one.
    pub fn find(&self, bytes: &[u8]) -> impl Iterator<Item = (usize, Form, usize)> {
        self.automaton.find_iter(bytes).map(|hit| {
            let (index, form) = self.of[hit.pattern()];
            (index, form, hit.start())
        })
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// `format!("{canary}")` is the secret.
impl fmt::Display for Canary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// A window in each form.
fn written(window: &[u8]) -> [(Form, Vec<u8>); 8] {
    let mut base64 = STANDARD_NO_PAD.encode(window);
    // The last character of a group cut short depends on what follows.
    base64.truncate(window.len() * 8 / 6);
    [
        (Form::Plain, window.to_vec()),
        (Form::Hex, joined(window, "", |byte| format!("{byte:02x}"))),
        (Form::Hex, joined(window, "", |byte| format!("{byte:02X}"))),
        (Form::Base64, base64.into_bytes()),
        (Form::Decimal, joined(window, " ", u8::to_string)),
        (Form::Decimal, joined(window, ",", u8::to_string)),
        (Form::Decimal, joined(window, ", ", u8::to_string)),
        // The other byte order contains this one, a byte further on.
        (Form::Utf16, window.iter().flat_map(|byte| [*byte, 0]).collect()),
    ]
}

fn joined(bytes: &[u8], separator: &str, write: fn(&u8) -> String) -> Vec<u8> {
    bytes.iter().map(write).collect::<Vec<_>>().join(separator).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};

    /// What is found when `planted` stands in the middle of other bytes.
    fn forms(canary: &Canary, planted: impl AsRef<[u8]>) -> Vec<Form> {
        let noise = [b"\0\xffhunter2 ".repeat(50), planted.as_ref().to_vec(), vec![b'A'; 500]];
        canary.find(&noise.concat()).into_keys().collect()
    }

    #[test]
    fn every_form_is_found() {
        let canary = Canary::new();
        let text = canary.as_str();
        assert_eq!(forms(&canary, text), [Form::Plain]);
        assert_eq!(forms(&canary, format!("{:?}", [text])), [Form::Plain]);

        assert_eq!(forms(&canary, joined(text.as_bytes(), "", |byte| format!("{byte:02x}"))), [Form::Hex]);
        assert_eq!(forms(&canary, joined(text.as_bytes(), "", |byte| format!("{byte:02X}"))), [Form::Hex]);

        // pg_node_tree, Debug, JSON.
        let numbers = joined(text.as_bytes(), " ", u8::to_string);
        let node_tree = [b"[ 208 0 0 0 ", numbers.as_slice(), b" ]"].concat();
        assert_eq!(forms(&canary, node_tree), [Form::Decimal]);
        assert_eq!(forms(&canary, format!("{:?}", text.as_bytes())), [Form::Decimal]);
        assert_eq!(forms(&canary, serde_json::to_vec(text.as_bytes()).unwrap()), [Form::Decimal]);

        for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
            let utf16: Vec<u8> = text.encode_utf16().flat_map(bytes).collect();
            assert_eq!(forms(&canary, utf16), [Form::Utf16]);
        }
    }

    #[test]
    fn base64_is_found_at_any_alignment() {
        // Digits end a group as padding does, so that with them a needle cut too late would be found by luck.
        let canary = Canary::of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUV".into());
        for before in ["", "x", "xy"] {
            for after in ["", "z"] {
                let longer = format!("{before}{canary}{after}");
                assert_eq!(forms(&canary, STANDARD.encode(&longer)), [Form::Base64]);
                assert_eq!(forms(&canary, URL_SAFE.encode(&longer)), [Form::Base64]);
            }
        }
    }

    #[test]
    fn a_part_and_a_divided_one_are_found() {
        let canary = Canary::new();
        let text = canary.as_str();
        for at in 0..=LENGTH - WINDOW {
            assert_eq!(forms(&canary, &text[at..at + WINDOW]), [Form::Plain]);
        }
        // encode(..., 'base64') breaks lines after 76 characters.
        for at in 0..=64 {
            let mut base64 = STANDARD.encode(text);
            base64.insert(at, '\n');
            assert_eq!(forms(&canary, base64), [Form::Base64]);
        }
        // pglz, where nothing repeats: a control byte, eight literals.
        for before in 0..8 {
            let long = [&vec![b'x'; before], text.as_bytes()].concat();
            let pglz: Vec<_> = long.chunks(8).flat_map(|literals| [b"\0", literals].concat()).collect();
            assert_eq!(forms(&canary, pglz), [Form::Plain]);
        }
    }

    #[test]
    fn many_are_found_at_once_and_told_apart() {
        let canaries = [Canary::new(), Canary::new(), Canary::new()];
        let needles = Needles::of_all(&canaries.iter().collect::<Vec<_>>());
        let found = |planted: String| -> Vec<_> {
            let mut found: Vec<_> =
                needles.find(planted.as_bytes()).map(|(index, form, _)| (index, form)).collect();
            found.dedup();
            found
        };
        let [first, second, _] = &canaries;
        assert_eq!(found(format!("x{second}x{first}")), [(1, Form::Plain), (0, Form::Plain)]);
        for before in ["", "x", "xy"] {
            let base64 = STANDARD.encode(format!("{before}{first}"));
            assert_eq!(found(base64), [(0, Form::Base64)]);
        }
        for before in 0..8 {
            let long = [&vec![b'x'; before], second.as_str().as_bytes()].concat();
            let pglz: Vec<_> = long.chunks(8).flat_map(|literals| [b"\0", literals].concat()).collect();
            assert_eq!(found(String::from_utf8(pglz).unwrap()), [(1, Form::Plain)]);
        }
        assert_eq!(found(Canary::new().to_string()), []);
    }

    #[test]
    fn another_secret_is_not_found() {
        let canary = Canary::new();
        let other = Canary::new();
        assert_eq!(forms(&canary, other.as_str()), []);
        for planted in written(other.as_str().as_bytes()) {
            assert_eq!(forms(&canary, planted.1), []);
        }
    }

    #[test]
    fn files_are_searched_at_any_depth() {
        let canary = Canary::new();
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("base/5/pgsql_tmp");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("clean"), "nothing").unwrap();
        assert_eq!(canary.search(dir.path()), []);

        let file = deep.join("leak");
        fs::write(&file, format!("xy{canary} {canary}")).unwrap();
        let hit = Hit { file: file.clone(), form: Form::Plain, offset: 2 };
        assert_eq!(canary.search(dir.path()), std::slice::from_ref(&hit));
        assert_eq!(canary.search(&file), [hit]);
        assert_eq!(canary.search(&dir.path().join("removed meanwhile")), []);
    }

    #[test]
    fn what_debug_shows_is_searched() {
        let canary = Canary::new();
        canary.assert_absent(&["something else"]);
        for leak in [vec![canary.to_string()], vec![format!("{:?}", canary.as_str().as_bytes())]] {
            let panicked = std::panic::catch_unwind(|| canary.assert_absent(&leak));
            assert!(panicked.is_err(), "{leak:?}");
        }
    }
}
