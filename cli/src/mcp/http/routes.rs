//! The routes: `/mcp`, `/credential`, `/credential/details`. Everything else is 404, so that no client finds an OAuth
//! server here.

use super::{
    super::{
        callers::{Caller, Callers, Denied},
        entry::Entries,
        limits::Door,
        log::Call,
        page::{calls, document},
        refusal::Refusal,
        server::Server,
    },
    answers::{self, Body},
    gate::{self, Names},
};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

const MAX_BODY: usize = 128 << 10;
/// For the body of a request to arrive.
const BODY: Duration = Duration::from_secs(10);
pub const REQUESTS_AT_ONCE: usize = 64;

/// Who may call.
enum Who {
    /// The user of this process, whom the listener has recognised.
    User(Arc<Caller>),
    Keys(Box<Callers>),
}

/// Everything behind one URL.
pub struct Site {
    who: Who,
    entries: Arc<Entries>,
    names: Names,
    is_https: bool,
    /// Whether the last address of `X-Forwarded-For` is the client's.
    is_behind_proxy: bool,
    sessions: Arc<NeverSessionManager>,
    config: StreamableHttpServerConfig,
    pub requests: Arc<Semaphore>,
}

/// The answer to who is no caller, or not yet.
type Refused = Box<Response<Body>>;

/// What a request is for.
enum Route {
    Mcp,
    Page,
    Details,
    Enter,
}

impl Route {
    fn of(method: &Method, path: &str) -> Result<Self, Refused> {
        match (path, method) {
            ("/mcp", &Method::POST) => Ok(Self::Mcp),
            ("/credential", &Method::GET | &Method::HEAD) => Ok(Self::Page),
            ("/credential", &Method::POST) => Ok(Self::Enter),
            ("/credential", _) => Err(answers::only("GET, HEAD, POST").into()),
            ("/credential/details", &Method::POST) => Ok(Self::Details),
            ("/mcp" | "/credential/details", _) => Err(answers::only("POST").into()),
            _ => Err(answers::refused(&Refusal::new(404, "not_found", "there is nothing here", "")).into()),
        }
    }
}

impl Site {
    /// For API keys.
    pub fn public(
        callers: Callers,
        entries: Arc<Entries>,
        names: Names,
        is_https: bool,
        is_behind_proxy: bool,
    ) -> Self {
        Self::new(Who::Keys(Box::new(callers)), entries, names, is_https, is_behind_proxy)
    }

    /// For the user of this process: the page alone.
    pub fn loopback(caller: Arc<Caller>, entries: Arc<Entries>, names: Names) -> Self {
        Self::new(Who::User(caller), entries, names, false, false)
    }

    fn new(who: Who, entries: Arc<Entries>, names: Names, is_https: bool, is_behind_proxy: bool) -> Self {
        // The gate has checked host and origin, for the page too.
        let config = StreamableHttpServerConfig::default()
            .disable_allowed_hosts()
            .with_legacy_session_mode(false)
            .with_json_response(true)
            .with_max_request_body_bytes(MAX_BODY);
        Self {
            who,
            entries,
            names,
            is_https,
            is_behind_proxy,
            sessions: Arc::default(),
            config,
            requests: Arc::new(Semaphore::new(REQUESTS_AT_ONCE)),
        }
    }

    pub async fn answer(&self, request: Request<Incoming>, address: IpAddr) -> Response<Body> {
        let mut response = match self.route(request, address).await {
            Ok(response) => response,
            Err(response) => {
                Call::begin("-", "http").end(response.status().as_str());
                *response
            }
        };
        let headers = response.headers_mut();
        headers.extend(document::HEADERS);
        if self.is_https {
            headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
        }
        response
    }

    async fn route(&self, request: Request<Incoming>, address: IpAddr) -> Result<Response<Body>, Refused> {
        let refused = |refusal| Box::new(answers::refused(&refusal));
        let (mut parts, body) = request.into_parts();
        self.names.check_host(&parts.headers, self.is_https).map_err(refused)?;
        gate::check_query(&parts.uri).map_err(refused)?;
        let route = Route::of(&parts.method, parts.uri.path())?;
        match route {
            Route::Page => {
                return document::page().ok_or_else(|| refused(Refusal::unavailable("there is no page")));
            }
            Route::Mcp => self.names.check_origin(&parts.headers).map_err(refused)?,
            Route::Details | Route::Enter => {
                self.names.check_page(&parts.headers).map_err(refused)?;
                require_json(&parts.headers).map_err(refused)?;
            }
        }
        let Ok(_place) = self.requests.try_acquire() else {
            let message = format!("{REQUESTS_AT_ONCE} requests are running");
            return Err(answers::retry_after(&Refusal::new(503, "busy", message, "Call again."), 1).into());
        };
        let door = if matches!(route, Route::Mcp) { Door::Tools } else { Door::Page };
        let (caller, place) = self.caller(&mut parts.headers, address, door).await?;
        let body = self.body(&parts.headers, body).await.map_err(refused)?;
        Ok(match route {
            // The loopback page is no MCP server.
            Route::Mcp if matches!(self.who, Who::User(_)) => {
                return Err(answers::only("GET, HEAD, POST").into());
            }
            Route::Mcp => {
                let place = Some(Arc::new(place));
                let server = Server { caller, entries: self.entries.clone(), place };
                let service = StreamableHttpService::new(
                    move || Ok(server.clone()),
                    self.sessions.clone(),
                    self.config.clone(),
                );
                service.handle(Request::from_parts(parts, Full::new(body))).await
            }
            Route::Details => {
                let call = Call::begin(&caller.name, "page/details");
                of_page(call, calls::details(&caller, &self.entries, &body).await)
            }
            Route::Enter | Route::Page => {
                let call = Call::begin(&caller.name, "page/enter");
                of_page(call, calls::enter(&caller, &self.entries, &body).await)
            }
        })
    }

    /// The caller. The key is taken off, so that nothing behind can show it.
    async fn caller(
        &self,
        headers: &mut HeaderMap,
        address: IpAddr,
        door: Door,
    ) -> Result<(Arc<Caller>, OwnedSemaphorePermit), Refused> {
        let callers = match &self.who {
            Who::User(caller) => {
                let place = caller.allowance.enter(door).map_err(|busy| answers::retry_after(&busy, 1))?;
                return Ok((caller.clone(), place));
            }
            Who::Keys(callers) => callers,
        };
        let address = self.client(headers, address);
        let key = gate::only_text(headers, &header::AUTHORIZATION)
            .and_then(|given| given.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let answer = match key {
            Some((_, key)) => callers.authenticate(key.trim(), address, door).await,
            None => Err(Denied::Unauthorized),
        };
        headers.remove(header::AUTHORIZATION);
        answer.map_err(|denied| {
            Box::new(match denied {
                Denied::Unauthorized => answers::unauthorized(),
                Denied::TooMany => {
                    let message = "too many logins of this address have failed";
                    answers::retry_after(&Refusal::new(429, "rate_limited", message, "Wait a minute."), 60)
                }
                Denied::Busy(refusal) => answers::retry_after(&refusal, 1),
                Denied::Unavailable => {
                    answers::retry_after(&Refusal::unavailable("the database does not answer"), 5)
                }
            })
        })
    }

    fn client(&self, headers: &HeaderMap, address: IpAddr) -> IpAddr {
        let name = HeaderName::from_static("x-forwarded-for");
        let last = headers.get_all(name).iter().next_back().filter(|_| self.is_behind_proxy);
        // What comes before was written by the client.
        let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        last.unwrap_or(address)
    }

    async fn body(&self, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
        let too_long =
            || Refusal::new(413, "too_large", format!("the body has more than {MAX_BODY} bytes"), "");
        let announced =
            gate::only_text(headers, &header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if announced.is_some_and(|length: usize| length > MAX_BODY) {
            return Err(too_long());
        }
        match timeout(BODY, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_long()),
            Ok(Err(_)) => Err(Refusal::invalid("the body did not arrive whole", "")),
            Err(_) => Err(Refusal::new(
                408,
                "too_slow",
                format!("the body took more than {} s", BODY.as_secs()),
                "",
            )),
        }
    }

    /// Closes and forgets what is over.
    pub fn purge(&self) {
        if let Who::Keys(callers) = &self.who {
            callers.purge();
        }
    }
}

fn of_page(call: Call, answer: Result<serde_json::Value, Refusal>) -> Response<Body> {
    match answer {
        Ok(object) => {
            call.end(object["error"]["code"].as_str().unwrap_or("ok"));
            answers::json(StatusCode::OK, &object)
        }
        Err(refusal) => {
            call.end(refusal.code);
            answers::refused(&refusal)
        }
    }
}

/// A page of another site can send a form without asking first, but no JSON.
fn require_json(headers: &HeaderMap) -> Result<(), Refusal> {
    let given = gate::only_text(headers, &header::CONTENT_TYPE);
    if given.is_some_and(|given| given.eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Refusal::new(415, "unsupported_media_type", "Content-Type is not application/json", ""))
}
