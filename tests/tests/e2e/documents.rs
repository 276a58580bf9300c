//! What the documents say: the tables that are generated, the links, and the size of the README.

use integration_credentials_core::error::ErrorCode;
use std::{collections::BTreeSet, fs, path::Path};
use tests::{
    Cluster,
    document::{assert_generated, read, root},
    intcred, run,
};

#[test]
fn error_codes_are_those_of_the_code() {
    let rows = ErrorCode::ALL
        .map(|code| format!("| `{code}` | {} | {} | {} |", code.status(), code.sqlstate(), code.meaning()));
    let table =
        format!("| code | status | SQLSTATE | when |\n| --- | --- | --- | --- |\n{}", rows.join("\n"));
    assert_generated("docs/sql.md", "errors", &table);
}

#[tokio::test]
async fn settings_are_those_of_the_server() {
    let superuser = Cluster::shared().database().await.superuser().await;
    let settings = "
        SELECT format('| `%s` | %s | %s | %s | %s%s |', name,
            CASE context WHEN 'sighup' THEN '`postgresql.conf`' ELSE context END,
            CASE WHEN enumvals IS NOT NULL THEN array_to_string(enumvals, ', ')
                 WHEN max_val IS NOT NULL THEN format('%s, %s to %s', vartype, min_val, max_val) ELSE vartype END,
            CASE WHEN boot_val IS NULL OR boot_val = '' THEN 'none' ELSE boot_val END,
            short_desc, coalesce(' ' || nullif(extra_desc, ''), ''))
        FROM pg_settings WHERE name LIKE 'integration\\_credentials.%' AND context <> 'internal' ORDER BY name";
    let rows = superuser.query(settings, &[]).await.unwrap();
    let rows: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let table = format!(
        "| setting | who sets it | type | default | meaning |\n| --- | --- | --- | --- | --- |\n{}",
        rows.join("\n")
    );
    assert_generated("docs/sql.md", "settings", &table);
}

#[tokio::test]
async fn command_line_is_that_of_the_help() {
    let mut text = Vec::new();
    let mut commands = vec![String::new()];
    while let Some(command) = commands.pop() {
        let words: Vec<_> = command.split_whitespace().collect();
        let help = run(intcred().args(&words).arg("--help").env("COLUMNS", "100"), b"").await.success();
        let lines: Vec<_> = help.lines().map(str::trim_end).collect();
        let below = lines.iter().skip_while(|line| **line != "Commands:").skip(1);
        let below: Vec<_> = below.take_while(|line| !line.is_empty()).collect();
        // In the order of the help.
        for line in below.iter().rev() {
            let name = line.split_whitespace().next().unwrap();
            // What goes on in the next line begins further to the right.
            if line.starts_with("  ") && !line.starts_with("   ") && name != "help" {
                commands.push(format!("{command} {name}"));
            }
        }
        text.push(format!("## `intcred{command}`\n\n```text\n{}\n```\n", lines.join("\n").trim_end()));
    }
    assert_generated("docs/cli.md", "cli", text.join("\n").trim_end());
}

/// The first example of the library, which cargo compiles.
#[test]
fn quick_start_is_that_of_the_library() {
    let library = read("cli/src/lib.rs");
    let example = library.split("```no_run\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let lines = example.lines().map(|line| line.strip_prefix("//!").unwrap_or_default());
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    let lines: Vec<_> = lines.filter(|line| !line.starts_with("# ")).collect();
    let text = lines.join("\n");
    assert_generated("docs/services.md", "quick-start", &format!("```rust\n{}\n```", text.trim()));
}

#[test]
fn readme_is_read_in_ten_minutes() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 150, "{} lines", readme.lines().count());
    assert!(readme.split_whitespace().count() <= 1400, "{} words", readme.split_whitespace().count());
}

/// The documents, as paths from the root.
fn documents() -> Vec<String> {
    let in_folder = |folder: &str| {
        let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().file_name());
        let names = entries
            .map(|name| name.into_string().unwrap())
            .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
        names.map(|name| format!("{folder}{name}")).collect::<Vec<_>>()
    };
    [in_folder(""), in_folder("docs/"), in_folder("docs/decisions/")].concat()
}

/// The anchors of a document, as a forge makes them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|next| next.is_alphanumeric() || matches!(next, ' ' | '-' | '_'));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = read(&document);
        let here = Path::new(&document).parent().unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { document.clone() } else { here.join(file).display().to_string() };
            let exists = root().join(&path).exists();
            let has_anchor = anchor.is_empty() || exists && anchors(&read(&path)).contains(anchor);
            if !exists || !has_anchor {
                broken.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
