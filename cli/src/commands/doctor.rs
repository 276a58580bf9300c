//! `intcred doctor`

use crate::{
    cli_error::CliError,
    context::Context,
    output::table,
    terminal::{log_line, one_line},
};
use intcred::{Doctor, Finding, Fix, Verdict};
use serde_json::json;
use std::{
    fmt::Write as _,
    io::{IsTerminal, Write as _, stderr, stdin},
};

pub async fn run(context: &Context, fix: bool, yes: bool) -> Result<(), CliError> {
    let doctor = Doctor::new(context.connect().await?);
    let mut findings = doctor.examine().await?;
    let mut applied = Vec::new();
    if fix {
        applied = statements(&findings);
        if !applied.is_empty() && confirmed(&applied, yes)? {
            doctor.apply(applied.iter().map(String::as_str)).await?;
            findings = doctor.examine().await?;
        } else {
            applied.clear();
        }
    }
    doctor.close().await;
    let problems = findings.iter().filter(|finding| finding.verdict == Verdict::Problem).count();
    let result = json!({"problems": problems, "applied": applied, "findings": findings});
    context.output.print(&result, |_| human(&findings))?;
    if problems == 0 { Ok(()) } else { Err(CliError::Unhealthy(problems)) }
}

/// The statements that fix problems, without duplicates.
fn statements(findings: &[Finding]) -> Vec<String> {
    let mut statements: Vec<String> = Vec::new();
    for statement in findings.iter().filter_map(Finding::statement) {
        if !statements.iter().any(|other| other == statement) {
            statements.push(statement.to_owned());
        }
    }
    statements
}

/// Shows the statements, and prompts.
fn confirmed(statements: &[String], yes: bool) -> Result<bool, CliError> {
    for statement in statements {
        log_line("intcred: to be run", statement);
    }
    if yes {
        return Ok(true);
    }
    if !stdin().is_terminal() {
        return Err(CliError::usage(
            "nothing was changed, because there is no terminal for the prompt",
            "run these statements with --yes",
        ));
    }
    let mut answer = String::new();
    let asked = write!(stderr(), "Run them? [y/N] ").and_then(|()| stdin().read_line(&mut answer));
    asked.map_err(CliError::Output)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A line for each finding. Below, for each check with advice or a problem, why that matters, and the fixes.
fn human(findings: &[Finding]) -> String {
    let rows = findings
        .iter()
        .map(|finding| [word(finding.verdict).to_owned(), finding.check.to_owned(), finding.found.clone()]);
    let mut text = table(["VERDICT", "CHECK", "FOUND"], rows);
    for same_check in findings.chunk_by(|one, next| one.check == next.check) {
        let open = |finding: &&Finding| matches!(finding.verdict, Verdict::Advice | Verdict::Problem);
        let fixes: Vec<_> =
            same_check.iter().filter(open).filter_map(|finding| finding.fix.as_ref()).collect();
        if let Some(first) = same_check.iter().find(open) {
            // Writing into a String cannot fail.
            let _ = write!(text, "\n\n{}: {}", first.check, first.why);
            for fix in fixes {
                let _ = write!(text, "\n    {}", instruction(fix));
            }
        }
    }
    text
}

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::Advice => "advice",
        Verdict::Problem => "problem",
        Verdict::Unknown => "unknown",
    }
}

fn instruction(fix: &Fix) -> String {
    match fix {
        Fix::Sql(text) | Fix::ByHand(text) => one_line(text),
        Fix::Reload(line) => format!("postgresql.conf, then reload: {}", one_line(line)),
        Fix::Restart(line) => format!("postgresql.conf, then restart: {}", one_line(line)),
    }
}
