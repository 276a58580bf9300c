//! The tools that change something.

use super::{
    super::{
        callers::{Caller, in_time},
        entry::Entries,
        refusal::Refusal,
    },
    Answer,
    answers::receipt,
    arguments::{self, OfKey, Set, Transition, parse},
};
use intcred::{Client, Error, Receipt, Secret, SetOptions};
use rmcp::{
    RoleServer,
    model::{CallToolRequestParams, JsonObject},
    service::RequestContext,
};

pub async fn set(
    caller: &Caller,
    entries: &Entries,
    request: CallToolRequestParams,
    given: JsonObject,
    context: &RequestContext<RoleServer>,
) -> Result<Answer, Answer> {
    // Whatever else is wrong: who gives a value without the right has shown it to a model.
    if given.contains_key("value") && !in_time(super::allowed(caller)).await?.values {
        return Err(shown().into());
    }
    let Set { integration_key: key, expected_revision, sealed, value } = parse(given)?;
    arguments::key(&key)?;
    let options = SetOptions { expected_revision, ..SetOptions::default() };
    match (sealed, value) {
        (None, None) => entries.ask(caller, &key, expected_revision, request, context).await,
        (Some(_), Some(_)) => {
            Err(Refusal::invalid("value and sealed are both given", "Give one of them, or none.").into())
        }
        (Some(sealed), None) => {
            let sealed = arguments::sealed(&sealed)?;
            let set =
                async |client: &Client, actor: &str| client.set_sealed(&key, &sealed, actor, &options).await;
            Ok(change(caller, set).await?)
        }
        (None, Some(value)) => {
            if value.contains('\0') {
                return Err(Refusal::invalid(
                    "value has a NUL character",
                    "Encode it, for example as base64.",
                )
                .into());
            }
            let value = Secret::from(value);
            let set =
                async |client: &Client, actor: &str| client.set_with(&key, &value, actor, &options).await;
            Ok(change(caller, set).await?)
        }
    }
}

/// Runs a change as the caller, and answers with its receipt.
async fn change(
    caller: &Caller,
    run: impl AsyncFnOnce(&Client, &str) -> Result<Receipt, Error>,
) -> Result<Answer, Refusal> {
    caller.allowance.begin_write()?;
    in_time(async {
        let connection = caller.connect().await?;
        let actor = caller.actor(connection.identity());
        let answer = run(&connection, &actor).await;
        Ok(Answer::done(receipt(&connection.finish(answer)?)))
    })
    .await
}

fn shown() -> Refusal {
    Refusal::invalid(
        "this caller may not give a value, and nothing was stored; the value is now in a transcript",
        "Replace it at its vendor. Call again without value: a person then types the new one into a page.",
    )
}

pub async fn remove(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let OfKey { integration_key: key } = parse(given)?;
    arguments::key(&key)?;
    change(caller, async |client: &Client, actor: &str| client.remove(&key, actor).await).await
}

pub async fn promote(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let Transition { integration_key: key, expected_revision } = parse(given)?;
    arguments::key(&key)?;
    change(caller, async |client: &Client, actor: &str| client.promote(&key, actor, expected_revision).await)
        .await
}

pub async fn rollback(caller: &Caller, given: JsonObject) -> Result<Answer, Refusal> {
    let Transition { integration_key: key, expected_revision } = parse(given)?;
    arguments::key(&key)?;
    change(caller, async |client: &Client, actor: &str| client.rollback(&key, actor, expected_revision).await)
        .await
}
