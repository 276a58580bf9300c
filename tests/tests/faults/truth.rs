//! What the database says, and has said.

use std::collections::{BTreeMap, HashMap};
use tests::Session;

/// What is so of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    pub revision: i64,
    pub has_credentials: bool,
    pub is_enabled: bool,
}

/// All keys, now.
pub async fn current(superuser: &Session) -> BTreeMap<String, State> {
    let list = r#"SELECT key, revision, "hasCredentials", "isEnabled"
                  FROM integration_credentials.list_integrations() WHERE key LIKE 'key-%'"#;
    let rows = superuser.query(list, &[]).await.unwrap();
    rows.iter()
        .map(|row| {
            let state = State { revision: row.get(1), has_credentials: row.get(2), is_enabled: row.get(3) };
            (row.get(0), state)
        })
        .collect()
}

/// All that ever happened: by key and word, the revisions.
pub struct History(HashMap<(String, String), Vec<i64>>);

impl History {
    pub async fn read(superuser: &Session) -> Self {
        let rows = superuser.query("SELECT key, word, revision FROM history", &[]).await.unwrap();
        let mut history = HashMap::<_, Vec<_>>::new();
        for row in rows {
            history.entry((row.get(0), row.get(1))).or_default().push(row.get(2));
        }
        Self(history)
    }

    /// Whether exactly this happened.
    pub fn has(&self, key: &str, word: &str, revision: i64) -> bool {
        self.revisions(key, word).contains(&revision)
    }

    /// Whether this happened at the revision or before it: what is enabled may have been changed since.
    pub fn has_up_to(&self, key: &str, word: &str, revision: i64) -> bool {
        let is_known = self.has(key, "changed", revision) || self.has(key, "removed", revision);
        is_known && self.revisions(key, word).iter().any(|&then| then <= revision)
    }

    fn revisions(&self, key: &str, word: &str) -> &[i64] {
        self.0.get(&(key.to_owned(), word.to_owned())).map_or(&[], Vec::as_slice)
    }
}
