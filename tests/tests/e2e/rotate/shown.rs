//! What a terminal shows, and what nothing shows: the values.

use super::{REVOKE, Rotation};
use crate::{
    command_line::{Terminal, eventually},
    helpers::{calls::ANY, fixture::assert_unlogged},
};
use std::fs;
use tests::{Canary, run};

#[tokio::test]
async fn terminal_shows_how_many_consumers_have_moved() {
    let rotation = Rotation::with_value("old").await;
    rotation.hold("web-1", 1, 300).await;
    let mut terminal = Terminal::start(&rotation.intcred(&["rotate", ANY]));
    terminal.answer("Value: ", "new\n").await;
    terminal.answer("Again: ", "new\n").await;
    eventually("the progress", async || {
        terminal.shown().ends_with("\rany: 0/1 consumers, waiting for web-1")
            || terminal.shown().ends_with("\u{1b}[2Kany: 0/1 consumers, waiting for web-1")
    })
    .await;
    rotation.hold("web-1", 2, 300).await;
    let (code, shown) = terminal.end().await;
    assert_eq!(code, 0, "{shown}");
    // The line of the progress is erased.
    assert!(shown.contains("waiting for web-1\r\u{1b}[2Kany: 1/1 consumers use revision 2\r\n"), "{shown:?}");
}

#[tokio::test]
async fn interrupt_says_how_to_go_on_and_leaves_the_terminal_as_it_was() {
    let rotation = Rotation::with_value("old").await;
    rotation.hold("web-1", 1, 300).await;
    let mut terminal = Terminal::start(&rotation.intcred(&["rotate", ANY]));
    terminal.answer("Value: ", "new\n").await;
    terminal.answer("Again: ", "new\n").await;
    terminal.reply("waiting for web-1", "\u{3}").await;
    let (code, shown) = terminal.end().await;
    assert!(code == 1 && shown.contains("intcred: interrupted\r\n"), "{code} {shown}");
    assert!(shown.contains("hint: `intcred rotate any --resume` goes on"), "{shown}");
    rotation.hold("web-1", 2, 300).await;
    assert_eq!(rotation.steps(&["--resume"], "").await, ["wait", "retire", "done"]);
}

#[tokio::test]
async fn interrupt_ends_the_command_that_runs() {
    let rotation = Rotation::with_value("old").await;
    // A terminal is started without the environment of the command.
    let test = format!("echo $$ > {}; exec sleep 60", rotation.path("pid").display());
    let mut terminal = Terminal::start(&rotation.intcred(&["rotate", ANY, "--test", &test]));
    terminal.answer("Value: ", "new\n").await;
    terminal.answer("Again: ", "new\n").await;
    eventually("the test runs", async || rotation.read("pid").ends_with('\n')).await;
    terminal.reply("staged\r\n", "\u{3}").await;
    let (code, shown) = terminal.end().await;
    assert!(code == 1 && shown.contains("--resume` goes on"), "{code} {shown}");
    let stat = format!("/proc/{}/stat", rotation.read("pid").trim());
    eventually("the command is gone", async || {
        fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "))
    })
    .await;
    assert_eq!(rotation.state().await, ("staged".to_owned(), 1));
}

#[tokio::test]
async fn values_are_on_standard_input_of_the_commands_and_nowhere_else() {
    let (old, new) = (Canary::new(), Canary::new());
    let rotation = Rotation::with_value(old.as_str()).await;
    // Prints what it gets, as a careless command does, and where it could be seen by others.
    let look = |name: &str| {
        format!(
            r#"tee "$DIR/{name}"; echo "$INTCRED_STEP $INTCRED_KEY $INTCRED_ORG" >&2
            cat /proc/$$/environ /proc/$$/cmdline /proc/$PPID/environ /proc/$PPID/cmdline > "$DIR/proc-{name}""#
        )
    };
    let (test, revoke) = (look("tested"), look("revoked"));
    let output = rotation.run(&["rotate", ANY, "--test", &test, "--revoke", &revoke], new.as_str()).await;
    assert_eq!(output.code, 0, "{output:?}");
    let org = rotation.database.name();
    let lines: Vec<_> = output.stderr.lines().collect();
    assert_eq!(lines.iter().filter(|line| line.contains("<redacted>")).count(), 2, "{output:?}");
    for act in ["test", "revoke"] {
        assert!(output.stderr.contains(&format!("{act} {ANY} {org}")), "{output:?}");
    }
    assert_eq!(
        (rotation.read("tested").as_str(), rotation.read("revoked").as_str()),
        (new.as_str(), old.as_str())
    );
    for canary in [&old, &new] {
        canary.assert_absent(&output);
        for name in ["proc-tested", "proc-revoked"] {
            let proc = fs::read(rotation.path(name)).unwrap();
            assert!(!proc.is_empty() && canary.find(&proc).is_empty(), "{name}");
        }
        assert_unlogged(canary);
    }
}

#[tokio::test]
async fn output_of_a_command_is_bounded_and_its_input_need_not_be_read() {
    let rotation = Rotation::with_value("old").await;
    let test = "exec 0<&-; yes | head -c 10000000; sleep 60 & exit 0";
    let output =
        run(&mut rotation.intcred(&["rotate", ANY, "--test", test]), "x".repeat(8192).as_bytes()).await;
    assert_eq!(output.code, 0, "{}", output.stdout);
    assert!(
        output.stderr.len() < 1 << 20 && output.stderr.ends_with("test: ...\n"),
        "{}",
        output.stderr.len()
    );
    assert_eq!(rotation.steps(&["--revoke", REVOKE], "newer").await.len(), 6);
}
