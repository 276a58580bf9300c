//! A person's entry of a secret: the link to the page, the wait for it, and what the client gets meanwhile.
//!
//! | client | what it gets |
//! | --- | --- |
//! | 2026-07-28 with URL mode | `input_required`; it asks again, and each time waits; after eight times, `pending` |
//! | earlier with URL mode, over stdio | `elicitation/create`, one wait, then `pending` |
//! | any other | `pending`: the link, to show to the person |
//!
//! Done is a higher revision of the row. So nothing is remembered here, and any replica can answer the next request.

use super::{
    callers::{Caller, in_time},
    page::loopback,
    refusal::Refusal,
    ticket::{Invalid, LEGS, Ticket, Tickets},
    tools::{Answer, receipt_of_row},
};
use intcred::{Integration, Timestamp};
use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, ClientResult, ElicitRequest, ElicitRequestParams, ElicitationAction,
        InputRequest, InputRequests, InputRequiredResult, InputResponses, ProtocolVersion, ServerRequest,
    },
    service::RequestContext,
};
use serde_json::json;
use std::time::{Duration, SystemTime};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, sleep, sleep_until, timeout_at},
};

/// How long a call waits. The official TypeScript client gives up after 60 seconds.
const WAIT: Duration = Duration::from_secs(45);
const WAITS_AT_ONCE: usize = 32;
/// How often a wait looks at the row, for entries by another replica or by the command line.
const LOOK: Duration = Duration::from_secs(1);
/// The name of the request to the person.
const INPUT: &str = "credential";

/// Where the page is.
pub enum Place {
    /// At the public URL.
    Public(String),
    /// On this machine, for the user of this process.
    Loopback(loopback::Listener),
}

pub struct Entries {
    pub tickets: Tickets,
    place: Place,
    waits: Semaphore,
    /// An entry on the page of this process.
    entered: Notify,
}

/// How a client lets a person open a link.
enum Way {
    InputRequired,
    Elicitation,
    Pending,
}

impl Way {
    fn of(context: &RequestContext<RoleServer>, place: &Place) -> Self {
        let elicitation = context.client_capabilities().and_then(|capabilities| capabilities.elicitation);
        let has_url = elicitation.is_some_and(|elicitation| elicitation.url.is_some());
        let is_stateless =
            context.protocol_version().is_some_and(|version| version >= ProtocolVersion::V_2026_07_28);
        match (has_url, is_stateless, place) {
            (true, true, _) => Self::InputRequired,
            // Over HTTP, a request to the client would need a session.
            (true, false, Place::Loopback(_)) => Self::Elicitation,
            _ => Self::Pending,
        }
    }
}

/// How a wait ends.
enum Waited {
    Entered(Integration),
    Late,
    /// Too many wait already.
    Full,
}

impl Entries {
    pub fn new(tickets: Tickets, place: Place) -> Self {
        Self { tickets, place, waits: Semaphore::new(WAITS_AT_ONCE), entered: Notify::new() }
    }

    /// Wakes the waiting calls, which look at their rows.
    pub fn announce(&self) {
        self.entered.notify_waiters();
    }

    /// Asks a person for the credential of an integration. What would be refused anyway is refused before the person
    /// types for nothing.
    pub async fn ask(
        &self,
        caller: &Caller,
        key: &str,
        expected: Option<i64>,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Answer> {
        let (row, ticket) = in_time(async {
            let allowed = super::tools::allowed(caller).await?;
            if !allowed.tools.contains(&super::tools::Tool::Set) {
                return Err(Refusal::forbidden());
            }
            let connection = caller.connect().await?;
            let found = connection.find_integration(key).await;
            let identity = connection.identity().clone();
            let row = usable(connection.finish(found)?)?;
            let ticket = Ticket {
                role: identity.role,
                org: identity.org,
                key: key.to_owned(),
                revision: row.revision,
                asked_at: Timestamp::now(),
                leg: 0,
            };
            Ok((row, ticket))
        })
        .await?;
        if let Some(state) = &request.request_state {
            return self
                .resume(caller, state, &row, &ticket, request.input_responses.as_ref(), context)
                .await;
        }
        if let Some(expected) = expected.filter(|expected| *expected != row.revision) {
            let found = row.revision;
            return Err(
                Refusal::conflict(format!("the credential has revision {found}, not {expected}")).into()
            );
        }
        let Some(url) = self.url(&ticket).await else { return Err(no_page().into()) };
        match Way::of(context, &self.place) {
            Way::InputRequired => self.input_required(&ticket, Some(url)),
            Way::Elicitation => self.elicit(caller, &row, &ticket, url, context).await,
            Way::Pending => Ok(pending(&row, &ticket, &url)),
        }
    }

    /// A client asks again, with what it got the last time.
    async fn resume(
        &self,
        caller: &Caller,
        state: &str,
        row: &Integration,
        now: &Ticket,
        responses: Option<&InputResponses>,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Answer> {
        let unverified = || Answer::Protocol(ErrorData::invalid_params("requestState does not verify", None));
        let ticket = self.tickets.open(state, SystemTime::now()).map_err(|invalid| match invalid {
            Invalid::Forged => unverified(),
            Invalid::Expired => Answer::Protocol(ErrorData::invalid_params("requestState has expired", None)),
        })?;
        let is_ours =
            ticket.role == now.role && ticket.org == now.org && ticket.key == now.key && ticket.leg > 0;
        if !is_ours {
            return Err(unverified());
        }
        if row.revision > ticket.revision {
            return Ok(Answer::done(receipt_of_row(row)));
        }
        if let Some(action) = responses.and_then(|responses| responses.get(INPUT)?.get("action")?.as_str())
            && action != "accept"
        {
            return Err(declined().into());
        }
        let until = Instant::now() + WAIT;
        let next = ticket.next_leg().filter(|next| next.leg < LEGS);
        match (self.wait(caller, &ticket, until, context).await?, next) {
            (Waited::Entered(row), _) => Ok(Answer::done(receipt_of_row(&row))),
            (Waited::Late, Some(next)) => self.input_required(&next, None),
            // Where too many wait, the client would ask again at once.
            (Waited::Late | Waited::Full, _) => {
                let url = self.url(&ticket.for_link()).await.ok_or_else(no_page)?;
                Ok(pending(row, &ticket, &url))
            }
        }
    }

    /// With the link the first time; after that, with the state alone, so that the client does not ask the person again.
    fn input_required(&self, ticket: &Ticket, url: Option<String>) -> Result<Answer, Answer> {
        let state = match &url {
            Some(_) => ticket.next_leg(),
            None => Some(ticket.clone()),
        };
        let state = state.and_then(|ticket| self.tickets.seal(&ticket)).ok_or_else(no_page)?;
        let requests = url.map(|url| {
            let asked = InputRequest::Elicitation(ElicitRequest::new(elicitation(ticket, url)));
            InputRequests::from([(INPUT.to_owned(), asked)])
        });
        Ok(Answer::InputRequired(InputRequiredResult::new(requests, Some(state))))
    }

    async fn elicit(
        &self,
        caller: &Caller,
        row: &Integration,
        ticket: &Ticket,
        url: String,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Answer> {
        let until = Instant::now() + WAIT;
        let request = ServerRequest::ElicitRequest(ElicitRequest::new(elicitation(ticket, url.clone())));
        let asking = timeout_at(until, context.peer.send_request(request));
        let answer = tokio::select! {
            answer = asking => answer,
            () = context.ct.cancelled() => return Err(gone().into()),
        };
        match answer {
            Ok(Ok(ClientResult::ElicitResult(result))) if result.action != ElicitationAction::Accept => {
                return Err(declined().into());
            }
            Ok(Ok(_)) => {}
            // No answer, or one that says that the client cannot: the link is still good.
            Ok(Err(_)) | Err(_) => return Ok(pending(row, ticket, &url)),
        }
        Ok(match self.wait(caller, ticket, until, context).await? {
            Waited::Entered(row) => Answer::done(receipt_of_row(&row)),
            Waited::Late | Waited::Full => pending(row, ticket, &url),
        })
    }

    /// Waits for a higher revision.
    async fn wait(
        &self,
        caller: &Caller,
        ticket: &Ticket,
        until: Instant,
        context: &RequestContext<RoleServer>,
    ) -> Result<Waited, Refusal> {
        let Ok(_place) = self.waits.try_acquire() else { return Ok(Waited::Full) };
        loop {
            let entered = self.entered.notified();
            tokio::pin!(entered);
            // From before the look, so that no entry comes between.
            entered.as_mut().enable();
            let row = usable(in_time(async { Ok(caller.find(&ticket.key).await?) }).await?)?;
            if row.revision > ticket.revision {
                return Ok(Waited::Entered(row));
            }
            tokio::select! {
                () = entered => {}
                () = sleep(LOOK) => {}
                () = sleep_until(until) => return Ok(Waited::Late),
                () = context.ct.cancelled() => return Err(gone()),
            }
        }
    }

    async fn url(&self, ticket: &Ticket) -> Option<String> {
        let base = match &self.place {
            Place::Public(url) => url.clone(),
            Place::Loopback(listener) => listener.url().await?,
        };
        Some(format!("{base}/credential#{}", self.tickets.seal(ticket)?))
    }

    /// The listener of stdio's page.
    pub const fn loopback(&self) -> Option<&loopback::Listener> {
        match &self.place {
            Place::Public(_) => None,
            Place::Loopback(listener) => Some(listener),
        }
    }
}

/// The row of an integration whose credential can be set.
pub fn usable(row: Option<Integration>) -> Result<Integration, Refusal> {
    let row = row.ok_or_else(Refusal::not_found)?;
    if row.is_enabled { Ok(row) } else { Err(Refusal::disabled()) }
}

fn elicitation(ticket: &Ticket, url: String) -> ElicitRequestParams {
    ElicitRequestParams::UrlElicitationParams {
        meta: None,
        message:
            "Open this page to enter the credential. It is sealed in your browser, and no model sees it."
                .to_owned(),
        url,
        elicitation_id: format!("{}-{}", ticket.revision, ticket.asked_at),
    }
}

/// The receipt as it is now, and the link.
fn pending(row: &Integration, ticket: &Ticket, url: &str) -> Answer {
    let mut object = receipt_of_row(row);
    object["pending"] = json!({"url": url, "expiresAt": ticket.expires_at(), "revision": ticket.revision});
    let text = format!(
        "Nothing is stored yet. Show this link to the person, who enters the secret there: {url} - Do not ask for the secret. \
         It is done when list_integrations shows a revision above {}. Instead of the page, the person can run `intcred set`.",
        ticket.revision
    );
    Answer::Done { object, text: Some(text) }
}

fn declined() -> Refusal {
    Refusal::invalid(
        "the person declined, and nothing was stored",
        "Call again when the person wants to enter the secret.",
    )
}

fn gone() -> Refusal {
    Refusal::invalid("the call was cancelled", "The link is good until it expires.")
}

fn no_page() -> Refusal {
    Refusal::unavailable(
        "there is no page on which a person could enter the secret; run `intcred set` instead",
    )
}
