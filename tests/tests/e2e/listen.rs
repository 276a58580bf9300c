//! Following the changes: `intcred listen`, and the library's watcher, through everything that breaks a connection.
//!
//! That something is *not* reported is shown without waiting: a change that is made afterwards is the next event.

use crate::{
    command_line::{PATIENCE, assert_fails, database, eventually, finish},
    helpers::calls::{ANY, enable, register, remove, set},
};
use intcred::{EventKind, Mode, Settings, WatchOptions, Watcher};
use nix::{
    sys::signal::{
        Signal::{self, SIGINT, SIGTERM},
        kill,
    },
    unistd::Pid,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};
use tests::{ADMIN, Cluster, Database, OUTSIDER, READER, SUPERUSER, Session, Shutdown, intcred, run};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines, copy_bidirectional},
    net::{TcpListener, UnixStream},
    process::{Child, ChildStdout},
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Less than the heartbeat of 15 s, by which a listener would find out what it was not notified of.
const SOON: Duration = Duration::from_secs(10);

/// A running `intcred listen`.
struct Listener {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    org: String,
}

impl Listener {
    /// Starts it, and waits until it is synced.
    async fn start(database: &Database, options: &[&str]) -> Self {
        let mut command = intcred();
        command.args(["--dsn", &database.dsn(READER), "listen"]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut listener = Self { child, lines, org: database.name().to_owned() };
        listener.expect(&[&format!("synced {}", keys(database).await)]).await;
        listener
    }

    async fn line(&mut self, patience: Duration) -> String {
        let line = timeout(patience, self.lines.next_line()).await.expect("no event came").unwrap();
        line.expect("it goes on")
    }

    async fn next(&mut self) -> Value {
        serde_json::from_str(&self.line(SOON).await).unwrap()
    }

    /// Panics unless the next lines are exactly these events: `changed key revision`, `synced keys`, `reconnected`.
    async fn expect(&mut self, events: &[&str]) {
        for event in events {
            let line = self.line(if *event == "reconnected" { PATIENCE } else { SOON }).await;
            let at = serde_json::from_str::<Value>(&line).unwrap()["at"].take();
            let org = json!(self.org);
            let words: Vec<_> = event.split(' ').collect();
            let about = match words[1..] {
                [key, revision] => format!(r#""org":{org},"key":"{key}","revision":{revision},"#),
                [keys] => format!(r#""org":{org},"keys":{keys},"#),
                _ => String::new(),
            };
            let expected = format!(r#"{{"event":"{}",{about}"at":{at}}}"#, words[0]);
            assert_eq!(line, expected);
        }
    }

    async fn expect_disconnected(&mut self) {
        let event = self.next().await;
        assert_eq!(event["event"], "disconnected", "{event}");
        assert!(event["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{event}");
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.id().unwrap().try_into().unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
    }
}

/// How many entries the catalog has.
async fn keys(database: &Database) -> usize {
    let list = "SELECT FROM integration_credentials.list_integrations()";
    database.connect(READER).await.query(list, &[]).await.unwrap().len()
}

/// Lets in nobody but superusers, or everybody again. Sessions that there are stay.
pub async fn admit(database: &Database, everybody: bool) {
    let limit = if everybody { -1 } else { 0 };
    let sql = format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", database.name());
    database.superuser().await.batch_execute(&sql).await.unwrap();
}

const SESSIONS: &str = "SELECT pid FROM pg_stat_activity
                        WHERE datname = current_database() AND application_name = 'intcred'";

/// How many sessions of `intcred` the database has.
pub async fn sessions(superuser: &Session) -> usize {
    superuser.query(SESSIONS, &[]).await.unwrap().len()
}

/// Ends the one session of `intcred`. One that was ended before may still be there for a moment.
pub async fn terminate(superuser: &Session) {
    let sql = format!("SELECT pg_terminate_backend(pid) FROM ({SESSIONS} OFFSET 0) AS s");
    assert!(!superuser.query(&sql, &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_kind_of_change_is_one_line_when_it_is_committed() {
    let database = database().await;
    let mut admin = database.connect(ADMIN).await;
    set(&admin, "trustradius", "some-value").await.unwrap();
    let mut listener = Listener::start(&database, &[]).await;

    for change in ["changed any 1", "changed any 2", "disabled any 2", "enabled any 2", "removed any 3"] {
        let answer = match change.split_once(' ').unwrap().0 {
            "changed" => set(&admin, ANY, "value").await,
            "removed" => remove(&admin, ANY).await,
            word => enable(&admin, ANY, word == "enabled").await,
        };
        answer.unwrap();
        listener.expect(&[change]).await;
    }
    // An entry that nobody has a credential for is no change.
    register(&admin, "new", json!({})).await.unwrap();
    let transaction = admin.transaction().await.unwrap();
    let call = "SELECT integration_credentials.admin_set_integration_credentials($1, 'value', 'actor')";
    for key in ["new", ANY, "new"] {
        transaction.execute(call, &[&key]).await.unwrap();
    }
    transaction.commit().await.unwrap();
    listener.expect(&["changed any 4", "changed new 2"]).await;
}

#[tokio::test]
async fn it_begins_with_the_number_of_keys_and_with_what_is_there_if_asked() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    for key in ["trustradius", ANY, ANY, "off"] {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "value").await.unwrap();
    }
    enable(&admin, "off", false).await.unwrap();
    for (options, events) in [
        (&[][..], &[][..]),
        (&["--initial"], &["changed any 2", "changed off 1", "changed trustradius 1"]),
        (&["--json", "--initial"], &["changed any 2", "changed off 1", "changed trustradius 1"]),
    ] {
        let mut listener = Listener::start(&database, options).await;
        listener.expect(events).await;
        enable(&admin, "slack", false).await.unwrap();
        listener.expect(&["disabled slack 0"]).await;
        enable(&admin, "slack", true).await.unwrap();
    }
}

#[tokio::test]
async fn what_did_not_happen_is_not_reported() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let outsider = database.connect(OUTSIDER).await;
    let other = database.superuser().await;
    other.batch_execute("SET integration_credentials.org_slug = 'other'").await.unwrap();
    let mut listener = Listener::start(&database, &[]).await;
    let forged = |org: &str| json!({"v": 1, "org": org, "key": ANY, "revision": 99, "op": "set"}).to_string();
    let mut expected = 0;
    let mut fence = async || {
        set(&admin, ANY, "value").await.unwrap();
        expected += 1;
        listener.expect(&[&format!("changed any {expected}")]).await;
    };

    admin.batch_execute("BEGIN").await.unwrap();
    set(&admin, ANY, "value").await.unwrap();
    admin.batch_execute("ROLLBACK").await.unwrap();
    fence().await;
    set(&admin, "nowhere", "value").await.unwrap_err();
    set(&admin, "slack", "no token").await.unwrap_err();
    fence().await;
    set(&other, ANY, "value").await.unwrap();
    remove(&other, ANY).await.unwrap();
    fence().await;
    for payload in [&forged(database.name()), &forged("other"), "", "garbage", "{}", "[1]", &"x".repeat(7999)]
    {
        outsider.execute("SELECT pg_notify('integration_credentials', $1)", &[&payload]).await.unwrap();
        outsider.execute("SELECT pg_notify('another_channel', $1)", &[&payload]).await.unwrap();
        fence().await;
    }
}

#[tokio::test]
async fn a_burst_is_reported_without_duplicates_and_up_to_its_end() {
    const LAST: &str = "zzz";
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let keys: Vec<_> = (0..20).map(|number| format!("k{number:02}")).collect();
    for key in keys.iter().map(String::as_str).chain([LAST]) {
        register(&admin, key, json!({})).await.unwrap();
    }
    let mut listener = Listener::start(&database, &[]).await;
    for change in 0..200 {
        set(&admin, &keys[change * 7 % 20], &format!("value {change}")).await.unwrap();
    }
    set(&admin, LAST, "value").await.unwrap();

    let mut seen = BTreeMap::new();
    loop {
        let event = listener.next().await;
        assert_eq!(event["event"], "changed");
        let (key, now) = (event["key"].as_str().unwrap().to_owned(), event["revision"].as_i64().unwrap());
        if key == LAST {
            break;
        }
        let before = seen.insert(key, now);
        assert!(before.is_none_or(|before| before < now), "{before:?}, {event}");
    }
    assert_eq!(seen, keys.into_iter().map(|key| (key, 10)).collect());
}

#[tokio::test]
async fn what_changed_while_it_was_away_is_reported_once_when_it_is_back() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let superuser = database.superuser().await;
    for key in ["gone", "off", "unchanged", "back", "brief"] {
        register(&admin, key, json!({})).await.unwrap();
        set(&admin, key, "value").await.unwrap();
    }
    let mut listener = Listener::start(&database, &[]).await;

    admit(&database, false).await;
    terminate(&superuser).await;
    listener.expect_disconnected().await;
    for value in ["one", "two", "three"] {
        set(&admin, ANY, value).await.unwrap();
    }
    set(&admin, "gone", "another").await.unwrap();
    remove(&admin, "gone").await.unwrap();
    enable(&admin, "off", false).await.unwrap();
    remove(&admin, "back").await.unwrap();
    set(&admin, "back", "value").await.unwrap();
    enable(&admin, "brief", false).await.unwrap();
    enable(&admin, "brief", true).await.unwrap();
    admit(&database, true).await;
    listener.expect(&["reconnected", "changed any 3", "changed back 3"]).await;
    listener.expect(&["removed gone 3", "disabled off 1"]).await;
    set(&admin, ANY, "four").await.unwrap();
    listener.expect(&["changed any 4"]).await;

    // Away for a moment only, and nobody waits for it.
    terminate(&superuser).await;
    set(&admin, ANY, "five").await.unwrap();
    listener.expect_disconnected().await;
    listener.expect(&["reconnected", "changed any 5"]).await;
    set(&admin, ANY, "six").await.unwrap();
    listener.expect(&["changed any 6"]).await;
}

#[tokio::test]
async fn it_outlives_the_server_however_that_ends() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let admin = database.connect(ADMIN).await;
    register(&admin, ANY, json!({})).await.unwrap();
    register(&admin, "unchanged", json!({})).await.unwrap();
    set(&admin, "unchanged", "value").await.unwrap();
    let ends: [fn(&mut Cluster); 3] = [
        |cluster| cluster.stop(Shutdown::Fast),
        |cluster| cluster.stop(Shutdown::Immediate),
        Cluster::kill_postmaster,
    ];
    for (round, end) in (0..).zip(ends) {
        // A new one each time: one that lost its server a moment ago takes its time to try again.
        let mut listener = Listener::start(&database, &[]).await;
        admit(&database, false).await;
        end(&mut cluster);
        listener.expect_disconnected().await;
        cluster.start();
        let superuser = database.superuser().await;
        for value in ["one", "two"] {
            set(&superuser, ANY, value).await.unwrap();
        }
        admit(&database, true).await;
        listener.expect(&["reconnected", &format!("changed any {}", round * 3 + 2)]).await;
        set(&superuser, ANY, "three").await.unwrap();
        listener.expect(&[&format!("changed any {}", round * 3 + 3)]).await;
    }
}

#[tokio::test]
async fn signals_end_it_at_once_with_status_0_connected_or_not() {
    let database = database().await;
    let superuser = database.superuser().await;
    for (signal, connected) in [(SIGTERM, true), (SIGINT, true), (SIGTERM, false), (SIGINT, false)] {
        let mut listener = Listener::start(&database, &[]).await;
        if !connected {
            admit(&database, false).await;
            terminate(&superuser).await;
            listener.expect_disconnected().await;
        }
        let sent = Instant::now();
        listener.signal(signal);
        assert_eq!(finish(listener.child).await, (0, String::new()), "{signal}, connected: {connected}");
        assert!(sent.elapsed() < Duration::from_secs(15), "{signal}, connected: {connected}");
        eventually("its session is gone", async || sessions(&superuser).await == 0).await;
        admit(&database, true).await;
    }
}

#[tokio::test]
async fn the_first_connection_must_succeed() {
    let database = database().await;
    let bare = Cluster::shared().empty_database().await;
    let nowhere = database.dsn(READER) + " port=1";
    for (dsn, code) in [(nowhere, 4), (bare.dsn(SUPERUSER), 4), (database.dsn(OUTSIDER), 3)] {
        assert_fails(&run(intcred().args(["--dsn", &dsn, "listen"]), b"").await, code, "");
    }
}

#[tokio::test]
async fn it_ends_quietly_when_nobody_reads_any_more() {
    let database = database().await;
    let listener = Listener::start(&database, &[]).await;
    drop(listener.lines);
    let admin = database.connect(ADMIN).await;
    // Again and again: a process that another test starts at this moment has the pipe, too, until it runs its program.
    let sets = async {
        loop {
            set(&admin, ANY, "value").await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
    };
    let left = tokio::select! {
        left = finish(listener.child) => left,
        () = sets => unreachable!("sets go on"),
    };
    assert_eq!(left, (0, String::new()));
    let superuser = database.superuser().await;
    eventually("its session is gone", async || sessions(&superuser).await == 0).await;
}

/// A way to the server that can stop carrying anything, without a word to either side, as a firewall does.
struct Proxy {
    port: u16,
    silenced: watch::Sender<()>,
}

impl Proxy {
    async fn start(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (silenced, silence) = watch::channel(());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = UnixStream::connect(&socket).await.unwrap();
                let mut silence = silence.clone();
                silence.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        Ok(()) = silence.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, silenced }
    }

    /// Carries nothing more on the connections that there are; new ones are as good as ever.
    fn silence(&self) {
        self.silenced.send(()).unwrap();
    }
}

/// How a watcher begins.
async fn synced(database: &Database) -> EventKind {
    EventKind::Synced { org: database.name().into(), keys: keys(database).await, mode: Mode::Listening }
}

async fn next(watcher: &mut Watcher) -> EventKind {
    timeout(PATIENCE, watcher.recv()).await.expect("no event came").unwrap().kind
}

#[tokio::test]
async fn a_connection_that_died_in_silence_is_noticed_and_replaced() {
    let cluster = Cluster::shared();
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let org = || database.name().to_owned();
    let proxy = Proxy::start(cluster.dir().join(format!(".s.PGSQL.{}", cluster.port()))).await;
    let dsn = format!("{} host=127.0.0.1 port={} sslmode=disable", database.dsn(READER), proxy.port);
    let options = WatchOptions {
        heartbeat: Duration::from_millis(200),
        timeout: Duration::from_secs(10),
        ..WatchOptions::default()
    };
    let settings = Settings::resolve(Some(&dsn)).unwrap();
    let mut watcher = Watcher::start(&settings, options).await.unwrap();
    assert_eq!(next(&mut watcher).await, synced(&database).await);
    let changed = |revision| EventKind::Changed { org: org(), key: ANY.into(), revision };
    set(&admin, ANY, "one").await.unwrap();
    assert_eq!(next(&mut watcher).await, changed(1));

    proxy.silence();
    set(&admin, ANY, "two").await.unwrap();
    set(&admin, ANY, "three").await.unwrap();
    let EventKind::Disconnected { reason, since } = next(&mut watcher).await else { panic!() };
    assert_eq!(reason, "no answer within 10 s");
    assert!(since.0.elapsed().unwrap() >= options.timeout);
    assert_eq!(next(&mut watcher).await, EventKind::Reconnected { mode: Mode::Listening });
    assert_eq!(next(&mut watcher).await, changed(3));
    set(&admin, ANY, "four").await.unwrap();
    assert_eq!(next(&mut watcher).await, changed(4));
}

#[tokio::test]
async fn a_change_that_no_notification_told_of_is_found_by_the_heartbeat() {
    let database = database().await;
    let superuser = database.superuser().await;
    set(&superuser, ANY, "value").await.unwrap();
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let options =
        WatchOptions { initial: true, heartbeat: Duration::from_millis(100), ..WatchOptions::default() };
    let mut watcher = Watcher::start(&settings, options).await.unwrap();
    let changed = |revision| EventKind::Changed { org: database.name().into(), key: ANY.into(), revision };
    assert_eq!(next(&mut watcher).await, synced(&database).await);
    assert_eq!(next(&mut watcher).await, changed(1));
    let silently = "UPDATE integration_credentials.configured_integrations SET revision = 7";
    superuser.batch_execute(silently).await.unwrap();
    assert_eq!(next(&mut watcher).await, changed(7));

    // Closed or dropped, it leaves no session behind.
    assert_eq!(sessions(&superuser).await, 1);
    watcher.close().await;
    eventually("the session is gone", async || sessions(&superuser).await == 0).await;
    drop(Watcher::start(&settings, WatchOptions::default()).await.unwrap());
    eventually("the session is gone", async || sessions(&superuser).await == 0).await;
}

#[tokio::test]
async fn a_watcher_that_nobody_reads_loses_no_last_revision() {
    let database = database().await;
    let admin = database.connect(ADMIN).await;
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let mut watcher = Watcher::start(&settings, WatchOptions::default()).await.unwrap();
    // More keys than it keeps events.
    let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
    for key in &keys {
        register(&admin, key, json!({})).await.unwrap();
    }
    for key in keys.iter().chain(&keys) {
        set(&admin, key, "value").await.unwrap();
    }
    let mut last = BTreeMap::new();
    while last.len() < keys.len() || last.values().any(|revision| *revision < 2) {
        if let EventKind::Changed { key, revision, .. } = next(&mut watcher).await {
            assert!(last.insert(key, revision) < Some(revision));
        }
    }
}

#[tokio::test]
async fn a_standby_is_polled_until_it_is_promoted() {
    let mut cluster = Cluster::private();
    let database = cluster.database().await;
    let superuser = database.superuser().await;
    register(&superuser, ANY, json!({})).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    let number = keys(&database).await;
    cluster.stop(Shutdown::Fast);
    // A standby that waits for WAL which nobody sends.
    std::fs::write(cluster.data_dir().join("standby.signal"), "").unwrap();
    cluster.start();

    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let options = WatchOptions { poll: Duration::from_millis(50), ..WatchOptions::default() };
    let mut watcher = Watcher::start(&settings, options).await.unwrap();
    let mode = Mode::Polling;
    assert_eq!(
        next(&mut watcher).await,
        EventKind::Synced { org: database.name().into(), keys: number, mode }
    );
    assert_eq!((watcher.mode(), watcher.snapshot().get(ANY).unwrap().revision), (mode, 1));

    let superuser = database.superuser().await;
    superuser.batch_execute("SELECT pg_promote()").await.unwrap();
    set(&superuser, ANY, "another").await.unwrap();
    let events = [next(&mut watcher).await, next(&mut watcher).await, next(&mut watcher).await];
    assert!(
        matches!(
            &events,
            [
                EventKind::Disconnected { reason, .. },
                EventKind::Reconnected { mode: Mode::Listening },
                EventKind::Changed { revision: 2, .. }
            ] | [
                // The poll may see the change first.
                EventKind::Changed { revision: 2, .. },
                EventKind::Disconnected { reason, .. },
                EventKind::Reconnected { mode: Mode::Listening },
            ] if reason.contains("promoted")
        ),
        "{events:?}"
    );
    set(&superuser, ANY, "yet another").await.unwrap();
    assert!(matches!(next(&mut watcher).await, EventKind::Changed { revision: 3, .. }));
}

#[tokio::test]
async fn only_what_was_named_is_read_and_everything_if_nothing_can_be_made_of_it() {
    let database = database().await;
    let superuser = database.superuser().await;
    // So that no event is on its way when the watcher starts.
    superuser.batch_execute("SET integration_credentials.notify = 'transaction'").await.unwrap();
    for key in [ANY, "silent"] {
        register(&superuser, key, json!({})).await.unwrap();
        set(&superuser, key, "value").await.unwrap();
    }
    let settings = Settings::resolve(Some(&database.dsn(READER))).unwrap();
    let mut watcher = Watcher::start(&settings, WatchOptions::default()).await.unwrap();
    assert_eq!(next(&mut watcher).await, synced(&database).await);
    let changed =
        |key: &str, revision| EventKind::Changed { org: database.name().into(), key: key.into(), revision };
    let silently = "UPDATE integration_credentials.configured_integrations SET revision = revision + 1
                    WHERE integration_key = 'silent'";
    superuser.batch_execute(silently).await.unwrap();
    set(&superuser, ANY, "value").await.unwrap();
    assert_eq!(next(&mut watcher).await, changed(ANY, 2));
    // An operation that only a later version knows.
    let resync =
        json!({"v": 1, "org": database.name(), "key": "", "revision": 0, "op": "resync"}).to_string();
    superuser.execute("SELECT pg_notify('integration_credentials', $1)", &[&resync]).await.unwrap();
    assert_eq!(next(&mut watcher).await, changed("silent", 2));
}
