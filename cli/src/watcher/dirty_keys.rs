//! What the notifications since the last look said to look at.

use integration_credentials_core::event::Event;
use std::{
    collections::BTreeSet,
    mem,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc::{self, error::TrySendError};

/// From this many keys on, reading the whole list is cheaper; and any role may name as many as it likes.
const MANY: usize = 256;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Whole,
    Keys(BTreeSet<String>),
}

impl Scope {
    const NOTHING: Self = Self::Keys(BTreeSet::new());

    fn add(&mut self, key: String) {
        if let Self::Keys(keys) = self {
            keys.insert(key);
            if keys.len() > MANY {
                *self = Self::Whole;
            }
        }
    }
}

/// Where hints are put, without ever waiting. Dropped with the connection.
pub(super) struct Notebook {
    noted: Arc<Mutex<Noted>>,
    wake: mpsc::Sender<()>,
}

/// Where they are read.
pub(super) struct Hints {
    noted: Arc<Mutex<Noted>>,
    woken: mpsc::Receiver<()>,
}

struct Noted {
    scope: Scope,
    /// The org that is watched, once that is known.
    org: Option<Arc<str>>,
}

pub(super) fn hints() -> (Notebook, Hints) {
    let noted = Arc::new(Mutex::new(Noted { scope: Scope::NOTHING, org: None }));
    let (wake, woken) = mpsc::channel(1);
    (Notebook { noted: noted.clone(), wake }, Hints { noted, woken })
}

impl Notebook {
    /// Notes what a payload says to look at. Nothing else that it says is relied on.
    pub fn note(&self, payload: &str) {
        {
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            match Event::parse(payload) {
                Ok(event) if noted.org.as_ref().is_some_and(|org| **org != event.org) => return,
                Ok(event) => noted.scope.add(event.key),
                // Of a form that a later version sends, or nonsense.
                Err(_) => noted.scope = Scope::Whole,
            }
        }
        // Full: the reader will be woken already. Closed: nobody is left to read.
        let (Ok(()) | Err(TrySendError::Full(()) | TrySendError::Closed(()))) = self.wake.try_send(());
    }
}

impl Hints {
    /// Waits for a hint; `false` when the connection has ended.
    pub async fn wait(&mut self) -> bool {
        self.woken.recv().await.is_some()
    }

    /// What to look at, by all hints so far.
    pub fn take(&self) -> Scope {
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut noted.scope, Scope::NOTHING)
    }

    /// From now on, hints about other orgs are passed over.
    pub fn only_of(&self, org: Arc<str>) {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).org = Some(org);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(org: &str, key: &str) -> String {
        format!(r#"{{"v":1,"org":"{org}","key":"{key}","revision":1,"op":"set"}}"#)
    }

    fn keys<const N: usize>(keys: [&str; N]) -> Scope {
        Scope::Keys(keys.map(str::to_owned).into())
    }

    #[test]
    fn the_keys_of_all_hints_are_looked_at_once_but_those_of_other_orgs() {
        let (notebook, hints) = hints();
        assert_eq!(hints.take(), keys([]));
        for (org, key) in [("acme", "b"), ("acme", "a"), ("acme", "b"), ("other", "c")] {
            notebook.note(&payload(org, key));
        }
        assert_eq!(hints.take(), keys(["a", "b", "c"]));
        assert_eq!(hints.take(), keys([]));
        hints.only_of("acme".into());
        notebook.note(&payload("other", "c"));
        assert_eq!(hints.take(), keys([]));
    }

    #[test]
    fn what_cannot_be_understood_and_what_is_too_much_is_the_whole_list() {
        let (notebook, hints) = hints();
        hints.only_of("acme".into());
        let set = payload("acme", "k");
        for odd in ["hello", &set.replace("\"v\":1", "\"v\":2"), &set.replace("\"set\"", "\"resync\"")] {
            notebook.note(&set);
            notebook.note(odd);
            notebook.note(&set);
            assert_eq!(hints.take(), Scope::Whole, "{odd}");
        }
        for number in 0..=MANY {
            notebook.note(&payload("acme", &number.to_string()));
        }
        assert_eq!(hints.take(), Scope::Whole);
    }
}
