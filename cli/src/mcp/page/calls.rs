//! The two calls of the page's script. The person who opens a link must be the person who asked
//! for the link: the caller's role is the ticket's.

use super::super::{
    callers::{Caller, in_time},
    entry::{Entries, usable},
    refusal::Refusal,
    text::{clean, clean_json},
    ticket::{Invalid, Ticket},
    tools::receipt,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use intcred::{Integration, SetOptions, internal::Identity};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::SystemTime;

/// The longest sealed value in base64.
const MAX_SEALED: usize = 64 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Details {
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    sealed: String,
}

/// What the link is for, and the key to seal to.
pub async fn details(caller: &Caller, entries: &Entries, body: &[u8]) -> Result<Value, Refusal> {
    let Details { token } = serde_json::from_slice(body).map_err(|_| malformed())?;
    caller.allowance.begin()?;
    in_time(async {
        let connection = caller.connect().await?;
        let identity = connection.identity().clone();
        let ticket = open(entries, &token, &identity)?;
        let answer = async {
            let row = connection.find_integration(&ticket.key).await?;
            let described = connection.describe_keys(&[&ticket.key]).await?.pop();
            Ok((row, described, connection.sealing_key().await?))
        };
        let answer = answer.await;
        let (row, described, sealing) = connection.finish(answer)?;
        let row = current(&ticket, row)?;
        let url = described.as_ref().and_then(|row| row.docs_url.as_deref());
        let url = url.map(clean).filter(|url| url.starts_with("https://"));
        let rules = described.map(|row| row.rules).filter(|rules| *rules != json!({})).map(clean_json);
        Ok(json!({
            "org": ticket.org, "key": ticket.key, "displayName": clean(&row.display_name), "docsUrl": url, "rules": rules,
            "requestedBy": caller.requested_by(&identity), "requestedAt": ticket.asked_at,
            "expiresAt": ticket.expires_at(), "role": ticket.role, "sealing": sealing,
        }))
    })
    .await
}

/// Stores what was sealed. The revision of the ticket is the expected one: of two entries, one is refused.
pub async fn enter(caller: &Caller, entries: &Entries, body: &[u8]) -> Result<Value, Refusal> {
    let Entry { token, sealed } = serde_json::from_slice(body).map_err(|_| malformed())?;
    caller.allowance.begin()?;
    caller.allowance.begin_write()?;
    let sealed = if sealed.len() > MAX_SEALED { None } else { STANDARD.decode(sealed).ok() };
    let sealed = sealed.filter(|bytes| !bytes.is_empty()).ok_or_else(malformed)?;
    let stored = in_time(async {
        let connection = caller.connect().await?;
        let ticket = open(entries, &token, connection.identity())?;
        let actor = caller.actor(connection.identity());
        let options = SetOptions { expected_revision: Some(ticket.revision), ..SetOptions::default() };
        let answer = connection.set_sealed(&ticket.key, &sealed, &actor, &options).await;
        match connection.finish(answer).map_err(Refusal::from) {
            Err(refusal) if refusal.status == 409 => Err(used()),
            answer => answer,
        }
    });
    let stored = stored.await?;
    entries.announce();
    Ok(receipt(&stored))
}

/// The ticket of a link, for the role that asked.
fn open(entries: &Entries, token: &str, identity: &Identity) -> Result<Ticket, Refusal> {
    let ticket = entries.tickets.open(token, SystemTime::now()).map_err(|invalid| match invalid {
        Invalid::Forged => Refusal::invalid("the link is not valid", "Ask for a new one."),
        Invalid::Expired => {
            Refusal::invalid("the link has expired", "Ask for a new one: a link is good for ten minutes.")
        }
    })?;
    if ticket.role != identity.role || ticket.org != identity.org {
        let message = "the link was made for another API key";
        return Err(Refusal::new(403, "forbidden_admin_scope", message, "Only who asked for it can use it."));
    }
    // What a client hands back is no link.
    if ticket.leg > 0 {
        return Err(Refusal::invalid("the link is not valid", "Ask for a new one."));
    }
    Ok(ticket)
}

/// The row, if the ticket was not used yet.
fn current(ticket: &Ticket, row: Option<Integration>) -> Result<Integration, Refusal> {
    let row = usable(row)?;
    if row.revision == ticket.revision { Ok(row) } else { Err(used()) }
}

fn used() -> Refusal {
    Refusal::conflict("the link was used, or somebody has set the credential meanwhile")
}

fn malformed() -> Refusal {
    Refusal::invalid("the request is not one of this page", "Reload the page from its link.")
}
