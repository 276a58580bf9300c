//! Whatever a statement may be written like: at random, for a while, with everything turned on that shows statements.
//! `SPELLINGS_SEED` makes the same statements again, and with `SPELLINGS_CASE` one of them alone.

mod grammar;

use super::{
    evidence::{Channel, Evidence, Leak},
    report,
    server::{self, Order},
};
use fastrand::Rng;
use grammar::{Function, Send, Writer};
use std::{
    collections::BTreeSet,
    env,
    io::{Write, stdout},
    path::Path,
    time::{Duration, Instant},
};
use tests::{Canary, Database, Session, Shutdown, installation::Installation};
use tokio_postgres::types::Type;

/// Who sends it all.
const ROLE: &str = "anybody";
/// How many cases a session has.
const ROUND: u64 = 20;

const OURS: Function =
    Function { schema: "integration_credentials", name: "admin_set_integration_credentials" };
/// The other one that takes a secret, of three texts like the first.
const HANDLER: Function = Function { schema: "integration_credentials", name: "sync_aggregator_credentials" };
const NOBODYS: Function = Function { schema: "app", name: "keep" };

/// A function that executes what it is told to, as those of dblink do; and what a session may set for itself.
const SCRIPT: &str = "
    CREATE ROLE anybody LOGIN IN ROLE integration_credentials_admin, pg_read_all_stats;
    GRANT SET ON PARAMETER lc_messages, log_min_messages TO anybody;
    GRANT EXECUTE ON FUNCTION integration_credentials.sync_aggregator_credentials TO anybody;
    GRANT CREATE ON SCHEMA public TO anybody;
    CREATE FUNCTION app.run(sql text) RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE sql; END $$;";

#[tokio::test]
async fn nor_however_the_statement_is_spelled() {
    // The same statements each time, so that a failure is the change's; `make soak` tries others.
    const SEED: u64 = 2;
    run(Duration::from_secs(10), SEED).await;
}

#[tokio::test]
#[ignore = "takes minutes: make soak"]
async fn nor_in_any_spelling_at_all() {
    let minutes = env::var("SOAK_MINUTES").map_or(5, |minutes| minutes.parse().expect("minutes, a number"));
    let end = Instant::now() + Duration::from_mins(minutes);
    // What is written in a minute is searched at once.
    while Instant::now() < end {
        run(Duration::from_mins(1), fastrand::u64(..)).await;
    }
}

/// What was sent, and with which secret in it.
struct Case {
    number: u64,
    function: Function,
    canary: Canary,
    sends: Vec<Send>,
    /// Whether nothing is wrong with it.
    is_sound: bool,
}

impl Case {
    fn is_control(&self) -> bool {
        self.function.name == NOBODYS.name
    }
}

/// A number in the environment.
fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|number| number.parse().expect("a number"))
}

/// `SPELLINGS_SEED` goes before the seed that is given.
async fn run(time: Duration, seed: u64) {
    let seed = number("SPELLINGS_SEED").unwrap_or(seed);
    let only = number("SPELLINGS_CASE");
    print(&format!("statements at random: SPELLINGS_SEED={seed}"));
    let languages = Installation::find().languages();
    let (mut cluster, database) = server::start_in(Order::OursLast, &languages).await;
    let operator = database.superuser().await;
    operator.batch_execute(SCRIPT).await.unwrap();

    let evidence = Evidence::default();
    let (mut cases, mut failures) = (Vec::new(), Vec::new());
    let control = control(&database, &operator, &languages, &evidence).await;
    cases.push(control);
    let end = Instant::now() + time;
    for round in only.map_or(0, |case| case / ROUND).. {
        let mut random = Rng::with_seed(seed.wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let sender = Sender::new(&database, &operator, &languages, &mut random).await;
        for case in round * ROUND..(round + 1) * ROUND {
            let case = sender.write(seed, case);
            if only.is_none_or(|only| only == case.number) {
                failures.extend(sender.send(&case, &evidence).await);
                cases.push(case);
            }
        }
        sender.finish(&evidence).await;
        if only.is_some() || Instant::now() > end {
            break;
        }
    }
    drop(operator);
    cluster.stop(Shutdown::Fast);
    evidence.add_files(&cluster);
    let leaks = evidence.search(&cases.iter().map(|case| &case.canary).collect::<Vec<_>>());
    let mut problems = leaked(&cases, &leaks);
    if only.is_none() {
        problems.extend(missing(&cases, &leaks));
        let sound = cases.iter().filter(|case| case.is_sound).count();
        print(&format!("statements at random: {}, {sound} of them sound", cases.len()));
    }
    // What hides a statement must not change what it does.
    problems.extend(failures);
    report::assert_none(&problems, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("leaks-random.txt"));
}

/// What is prepared and declared in the plainest of ways, so that it is sure to be found.
async fn control(database: &Database, operator: &Session, languages: &[String], evidence: &Evidence) -> Case {
    let canary = Canary::new();
    let call = format!("SELECT app.keep('any', '{canary}', 'x')");
    let sends = vec![
        Send::Simple(format!("PREPARE p AS {call}")),
        Send::Simple(format!("DECLARE c CURSOR WITH HOLD FOR {call}")),
        // Of these, pg_stat_statements leaves out the values, since 18.
        Send::Simple(format!("DO $do$ BEGIN PERFORM app.keep('any', '{canary}', 'x'); END $do$")),
        Send::Simple(format!("SELECT app.keep('any', '{canary}'::int::text, 'x')")),
    ];
    let case = Case { number: u64::MAX, function: NOBODYS, canary, sends, is_sound: false };
    let mut sender = Sender::new(database, operator, languages, &mut Rng::with_seed(0)).await;
    (sender.before, sender.is_silent) = (&[], false);
    sender.session.batch_execute("RESET log_min_messages").await.unwrap();
    sender.send(&case, evidence).await;
    sender.finish(evidence).await;
    case
}

/// A session, in some language and state.
struct Sender<'a> {
    session: Session,
    operator: &'a Session,
    pid: i32,
    backslashes: bool,
    /// Whether nothing is logged.
    is_silent: bool,
    /// What each case begins with.
    before: &'static [&'static str],
}

impl<'a> Sender<'a> {
    async fn new(database: &Database, operator: &'a Session, languages: &[String], random: &mut Rng) -> Self {
        const STATES: &[&[&str]] = &[
            &[],
            &[],
            &[],
            &["BEGIN"],
            &["BEGIN", "SAVEPOINT s"],
            &["BEGIN", "SELECT 1/0"],
            &["BEGIN", "SAVEPOINT s", "SELECT 1/0", "ROLLBACK TO s"],
        ];
        let session = database.connect(ROLE).await;
        let backslashes = random.u8(..5) == 0;
        let mut settings = String::from("SET plan_cache_mode = force_custom_plan;");
        if random.bool()
            && let Some(language) = random.choice(languages)
        {
            settings.extend(["SET lc_messages = '", language, "';"]);
        }
        let is_silent = random.u8(..5) == 0;
        if is_silent {
            settings += "SET log_min_messages = panic;";
        }
        if backslashes {
            settings += "SET standard_conforming_strings = off; SET escape_string_warning = off;";
        }
        session.batch_execute(&settings).await.unwrap();
        let pid = session.pid().await;
        Self { session, operator, pid, backslashes, is_silent, before: STATES[random.usize(..STATES.len())] }
    }

    fn write(&self, seed: u64, number: u64) -> Case {
        let mut random = Rng::with_seed(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
        let function = match random.u8(..12) {
            0 => NOBODYS,
            1 => HANDLER,
            _ => OURS,
        };
        let canary = Canary::new();
        let mut writer = Writer::new(&mut random, canary.as_str(), function, self.backslashes, number);
        let (sends, is_sound) = writer.case();
        // The arguments of the handler have other names, and its tables are not for everybody.
        let is_sound = is_sound && function.name != HANDLER.name;
        Case { number, function, canary, sends, is_sound }
    }

    /// Sends a case, and looks at what the session is said to be doing. Returns what failed that nothing is wrong with.
    async fn send(&self, case: &Case, evidence: &Evidence) -> Option<String> {
        for sql in self.before {
            let _ = self.session.batch_execute(sql).await;
        }
        let mut failure = None;
        for send in &case.sends {
            let sent = match send {
                Send::Simple(sql) => self.session.simple_query(sql).await.map(drop),
                Send::Extended(sql) => self.session.query_typed(sql, &[]).await.map(drop),
                Send::Bind(sql, value) => {
                    self.session.query_typed(sql, &[(value, Type::TEXT)]).await.map(drop)
                }
            };
            self.hear(&sent, evidence);
            self.look(evidence).await;
            // EXECUTE of what could not be prepared names nothing.
            if let Err(error) = sent {
                let may_fail = !case.is_sound || self.before.last() == Some(&"SELECT 1/0");
                failure =
                    (!may_fail).then(|| format!("SPELLINGS_CASE={} fails: {error:?}: {send:?}", case.number));
                break;
            }
        }
        if !self.before.is_empty() {
            self.own(evidence).await;
            // A cursor that is to outlive it is read to its end.
            let committed = self.session.batch_execute("COMMIT").await;
            self.hear(&committed, evidence);
        }
        failure
    }

    /// What the client is told that is logged, too. (What is not logged, no hook sees.)
    fn hear<T>(&self, answer: &Result<T, tokio_postgres::Error>, evidence: &Evidence) {
        if let Err(error) = answer
            && !self.is_silent
        {
            evidence.add(Channel::Messages, format!("{error:?}"));
        }
    }

    /// Once the session waits for the client: an error arrives before the session is done with its statement.
    async fn look(&self, evidence: &Evidence) {
        let activity = "SELECT query FROM pg_stat_activity WHERE pid = $1 AND state <> 'active'";
        let seen = loop {
            if let Some(row) = self.operator.query_opt(activity, &[&self.pid]).await.unwrap() {
                break row.get::<_, String>(0);
            }
        };
        evidence.add_named(Channel::After, "pg_stat_activity", seen);
    }

    /// What the session sees of what it prepared and declared; nothing, in a transaction that failed.
    async fn own(&self, evidence: &Evidence) {
        let views = "SELECT 'pg_prepared_statements ' || v FROM pg_prepared_statements v
                     UNION ALL SELECT 'pg_cursors ' || v FROM pg_cursors v";
        for row in self.session.query_typed(views, &[]).await.unwrap_or_default() {
            evidence.add(Channel::Own, row.get::<_, String>(0));
        }
    }

    async fn finish(self, evidence: &Evidence) {
        self.own(evidence).await;
        let statements = "SELECT 'pg_stat_statements ' || query FROM pg_stat_statements";
        for row in self.operator.query(statements, &[]).await.unwrap() {
            evidence.add_named(Channel::After, "pg_stat_statements", row.get::<_, String>(0));
        }
        self.operator.batch_execute("SELECT pg_stat_statements_reset()").await.unwrap();
    }
}

/// What shows the value of one of our calls. What lies in other files is what controls keep.
fn leaked(cases: &[Case], leaks: &BTreeSet<Leak>) -> Vec<String> {
    let ours = leaks.iter().filter(|leak| !cases[leak.cell].is_control());
    ours.map(|leak| {
        let Case { number, sends, canary, .. } = &cases[leak.cell];
        let sent = format!("{sends:?}").replace(canary.as_str(), "<value>");
        format!(
            "SPELLINGS_CASE={number}: {}, {:?}: {}\n    {sent}",
            leak.channel.name(),
            leak.form,
            leak.excerpt
        )
    })
    .collect()
}

/// Where the values of the controls should have been found.
fn missing(cases: &[Case], leaks: &BTreeSet<Leak>) -> Vec<String> {
    let controls: Vec<_> = leaks.iter().filter(|leak| cases[leak.cell].is_control()).collect();
    let channels =
        [Channel::Stderr, Channel::Csv, Channel::Json, Channel::Messages].map(|channel| (channel, ""));
    let views = ["pg_stat_activity", "pg_stat_statements"].map(|view| (Channel::After, view));
    let own = ["pg_prepared_statements", "pg_cursors"].map(|view| (Channel::Own, view));
    let all = channels.into_iter().chain(views).chain(own);
    let found = |channel, marker| {
        controls.iter().any(|leak| leak.channel == channel && leak.excerpt.contains(marker))
    };
    let missing = all.filter(|(channel, marker)| !found(*channel, *marker));
    missing
        .map(|(channel, marker)| format!("control: nothing is found in {} {marker}", channel.name()))
        .collect()
}

/// Past the test runner, which shows only what failed.
fn print(line: &str) {
    stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}
