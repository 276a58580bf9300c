//! Where a secret is sought, and what was found.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};
use tests::{
    Canary, Cluster,
    canary::{Form, Needles},
};

/// Where something can leak to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    /// The log of the server as text, ...
    Stderr,
    /// ... as CSV, ...
    Csv,
    /// ... and as JSON.
    Json,
    /// Every other file of the cluster.
    Data,
    /// What a superuser sees in any view of the catalog or of `pg_stat_statements` while the call runs, ...
    During,
    /// ... and afterwards, the session being idle.
    After,
    /// What the session itself sees in the views about itself.
    Own,
    /// Notices and errors, with all their parts.
    Messages,
    /// What the statement returns.
    Rows,
    /// What the client library logs at the level of traces.
    ClientLog,
}

impl Channel {
    pub const ALL: [Self; 10] = [
        Self::Stderr,
        Self::Csv,
        Self::Json,
        Self::Data,
        Self::During,
        Self::After,
        Self::Own,
        Self::Messages,
        Self::Rows,
        Self::ClientLog,
    ];

    /// For the matrix.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stderr => "log",
            Self::Csv => "csvlog",
            Self::Json => "jsonlog",
            Self::Data => "files",
            Self::During => "views while it runs",
            Self::After => "views",
            Self::Own => "own views",
            Self::Messages => "messages",
            Self::Rows => "rows",
            Self::ClientLog => "client's log",
        }
    }
}

/// A place where a secret was found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leak {
    /// Whose: the number of the cell, or of the secret.
    pub cell: usize,
    pub channel: Channel,
    pub form: Form,
    /// What stands around it, with `<value>` in its place.
    pub excerpt: String,
}

/// What was collected.
#[derive(Default)]
pub struct Evidence(RefCell<Vec<(Channel, String, Vec<u8>)>>);

impl Evidence {
    pub fn add(&self, channel: Channel, text: impl Into<Vec<u8>>) {
        self.add_named(channel, "", text);
    }

    /// Adds what has a name of its own in its channel, such as a file.
    pub fn add_named(&self, channel: Channel, name: impl Into<String>, text: impl Into<Vec<u8>>) {
        self.0.borrow_mut().push((channel, name.into(), text.into()));
    }

    /// Adds all files of a cluster that has stopped, and takes its logs away, so that they need not be added again.
    pub fn add_files(&self, cluster: &Cluster) {
        let logs = cluster.data_dir().join("log");
        for file in files(cluster.dir()) {
            let channel = match file.strip_prefix(&logs).ok().and_then(Path::extension) {
                Some(extension) if extension == "csv" => Channel::Csv,
                Some(extension) if extension == "json" => Channel::Json,
                Some(_) => Channel::Stderr,
                None => Channel::Data,
            };
            let name = file.display().to_string();
            self.add_named(channel, name, fs::read(file).expect("a file of a stopped server stays"));
        }
        fs::remove_dir_all(logs).expect("logs can be removed");
    }

    /// Seeks all secrets in everything.
    pub fn search(&self, canaries: &[&Canary]) -> BTreeSet<Leak> {
        let needles = Needles::of_all(canaries);
        let mut leaks = BTreeSet::new();
        for (channel, name, bytes) in self.0.borrow().iter() {
            let mut seen_to = vec![0; canaries.len()];
            for (cell, form, offset) in needles.find(bytes) {
                // Once a line is enough.
                if offset >= seen_to[cell] {
                    seen_to[cell] = end_of_line(bytes, offset);
                    let excerpt = format!("{name} {}", excerpt(bytes, offset, canaries[cell].as_str()));
                    leaks.insert(Leak { cell, channel: *channel, form, excerpt });
                }
            }
        }
        leaks
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory of a stopped server stays");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn end_of_line(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| from + length)
}

/// A line, or what is near in a long one.
fn excerpt(bytes: &[u8], offset: usize, secret: &str) -> String {
    const NEAR: usize = 160;
    let start = bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let start = start.max(offset.saturating_sub(NEAR));
    let end = end_of_line(bytes, offset).min(offset + secret.len() + NEAR);
    let text = String::from_utf8_lossy(&bytes[start..end]).replace(secret, "<value>");
    text.replace(char::is_control, " ")
}
