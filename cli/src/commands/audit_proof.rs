//! `intcred audit head`, `verify`, `prove`, `export` and `prune`.

use crate::{cli_error::CliError, context::Context};
use intcred::{AuditEntry, Head, Problem, Proof, Verification, internal::read_bounded};
use integration_credentials_core::audit::block::{from_hex, hex};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::{fmt::Write as _, fs::File, path::Path, time::Duration};
use tokio::time::sleep;

/// A proof has some kilobytes.
const MAX_FILE_BYTES: usize = 1 << 20;
const POLL: Duration = Duration::from_secs(1);
/// Blocks that are read at once.
const BATCH: i32 = 50;

pub async fn head(context: &Context, follow: bool) -> Result<(), CliError> {
    let client = context.connect().await?;
    let mut last = None;
    loop {
        let head = client.audit_head().await?;
        if head != last
            && let Some(head) = &head
        {
            context.output.line(head)?;
        }
        if !follow {
            client.close().await;
            return if head.is_some() { Ok(()) } else { Err(no_block()) };
        }
        last = head;
        sleep(POLL).await;
    }
}

fn no_block() -> CliError {
    CliError::Missing("no signed block yet; the server signs within seconds, if it has a keyring".to_owned())
}

pub async fn verify(context: &Context, head: Option<&Path>) -> Result<(), CliError> {
    let head: Option<Head> = head.map(read).transpose()?;
    let client = context.connect().await?;
    let found = client.verify_audit_log(head.as_ref()).await?;
    client.close().await;
    context.output.print(&found, |found| describe(found, head.as_ref()))?;
    match found.problems.len() {
        0 => Ok(()),
        problems => Err(CliError::Tampered(problems)),
    }
}

fn describe(found: &Verification, head: Option<&Head>) -> String {
    let Verification { blocks, rows, rows_from_before, rows_pruned, problems, .. } = found;
    let mut text: String =
        problems.iter().map(Problem::to_string).fold(String::new(), |mut text, problem| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "problem  {problem}");
            text
        });
    let word = if problems.is_empty() { "ok      " } else { "read    " };
    let _ = write!(text, "{word} {rows} rows in {blocks} blocks");
    if *rows_from_before > 0 {
        let _ = write!(text, "; {rows_from_before} of them from before the log had MACs");
    }
    if *rows_pruned > 0 {
        let _ = write!(text, "; {rows_pruned} more rows were pruned");
    }
    let _ = match head {
        Some(head) => write!(text, "; compared with the head of block {}", head.number()),
        None => write!(text, "; without a head, what was cut off at the end is not missed"),
    };
    text
}

pub fn verify_proof(
    context: &Context,
    path: &Path,
    head: Option<&Path>,
    public_key: Option<&str>,
) -> Result<(), CliError> {
    let proof: Proof = read(path)?;
    let head: Option<Head> = head.map(read).transpose()?;
    let given = public_key.map(|key| {
        from_hex(key)
            .ok_or_else(|| CliError::usage("--public-key is not 64 hex digits", "see `intcred audit head`"))
    });
    let key = head.map(|head| head.public_key()).or(given.transpose()?);
    let block = proof
        .verify(key)
        .map_err(|problem| CliError::Proof { path: path.to_owned(), problem: problem.to_string() })?;
    let signer = hex(&block.public_key());
    let result =
        json!({"id": proof.id(), "block": block.number(), "publicKey": signer, "isTrusted": key.is_some()});
    context.output.print(&result, |_| {
        let (id, block) = (proof.id(), block.number());
        if key.is_some() {
            format!("ok       row {id} is in block {block}")
        } else {
            format!("ok       row {id} is in block {block}, if you trust the public key {signer}")
        }
    })
}

pub async fn prove(context: &Context, id: i64) -> Result<(), CliError> {
    let client = context.connect().await?;
    let proof = client.audit_proof(id).await?;
    client.close().await;
    let proof =
        proof.ok_or_else(|| CliError::Missing(format!("no row {id} of this org in a signed block")))?;
    context.output.line(&proof)
}

#[derive(Serialize)]
struct Line<'a> {
    block: i64,
    #[serde(flatten)]
    entry: &'a AuditEntry,
}

pub async fn export(context: &Context, follow: bool, mut after: i64) -> Result<(), CliError> {
    let client = context.connect().await?;
    loop {
        let newest = client.audit_head().await?.map(|head| head.number());
        let newest = newest.and_then(|number| i64::try_from(number).ok()).unwrap_or(-1);
        while after < newest {
            for (block, entry) in &client.audit_sealed(after, BATCH).await? {
                context.output.line(&Line { block: *block, entry })?;
            }
            after = after.saturating_add(BATCH.into()).min(newest);
        }
        if !follow {
            client.close().await;
            return Ok(());
        }
        sleep(POLL).await;
    }
}

pub async fn prune(context: &Context, before: &str) -> Result<(), CliError> {
    let moment = humantime::parse_rfc3339_weak(before).map_err(|_| {
        CliError::usage(format!("{before:?} is not a time"), "write it like 2026-01-31T00:00:00Z")
    })?;
    let client = context.connect().await?;
    let answer = client.audit_prune(moment).await?;
    client.close().await;
    context
        .output
        .print(&answer, |answer| format!("pruned {} rows of {} blocks", answer["rows"], answer["blocks"]))
}

/// Reads a head or a proof.
fn read<T: DeserializeOwned>(path: &Path) -> Result<T, CliError> {
    let file = |source| CliError::File { path: path.to_owned(), source };
    let bytes = read_bounded(File::open(path).map_err(file)?, MAX_FILE_BYTES).map_err(file)?;
    serde_json::from_slice(&bytes)
        .map_err(|error| CliError::Proof { path: path.to_owned(), problem: error.to_string() })
}
