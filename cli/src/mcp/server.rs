//! The requests of the protocol, by rmcp.

use super::{
    callers::{Caller, in_time},
    entry::Entries,
    limits::Door,
    log::Call,
    refusal::Refusal,
    tools::{self, Allowed, Answer, Tool},
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CacheScope, CallToolRequestParams, CallToolResponse, Implementation, ListToolsResult,
        PaginatedRequestParams, ProtocolVersion, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
};
use std::{borrow::Cow, sync::Arc};
use tokio::sync::OwnedSemaphorePermit;

const VERSIONS: &[ProtocolVersion] = &[
    ProtocolVersion::V_2025_03_26,
    ProtocolVersion::V_2025_06_18,
    ProtocolVersion::V_2025_11_25,
    ProtocolVersion::V_2026_07_28,
];
/// How long a client may keep the list of tools. A call is decided by Postgres whatever the list said.
const LIST_MILLISECONDS: u64 = 60_000;

/// The server, as one caller sees it.
#[derive(Clone)]
pub struct Server {
    pub caller: Arc<Caller>,
    pub entries: Arc<Entries>,
    /// The place of the request, over HTTP. Over stdio, each call takes one.
    pub place: Option<Arc<OwnedSemaphorePermit>>,
}

impl Server {
    fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, Refusal> {
        if self.place.is_some() { Ok(None) } else { self.caller.allowance.enter(Door::Tools).map(Some) }
    }

    async fn allowed(&self) -> Result<Allowed, Refusal> {
        let _place = self.enter()?;
        self.caller.allowance.begin()?;
        in_time(tools::allowed(&self.caller)).await
    }

    async fn answer(
        &self,
        tool: Tool,
        request: CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<Answer, Answer> {
        let _place = self.enter()?;
        tools::call(tool, &self.caller, &self.entries, request, context).await
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
            .with_server_info(Implementation::new("intcred", env!("CARGO_PKG_VERSION")).with_title("Integration credentials"))
            .with_instructions(
                "Credentials of third-party integrations. No tool returns a value, and none wants one: a person types a \
                 secret into a page. Never ask for a secret in the chat.",
            )
    }

    fn supported_protocol_versions(&self) -> Cow<'static, [ProtocolVersion]> {
        Cow::Borrowed(VERSIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let call = Call::begin(&self.caller.name, "tools/list");
        match self.allowed().await {
            Ok(allowed) => {
                call.end("ok");
                let tools =
                    allowed.tools.iter().map(|tool| tools::definition(*tool, allowed.values)).collect();
                let mut result = ListToolsResult::with_all_items(tools);
                result.ttl_ms = Some(LIST_MILLISECONDS);
                result.cache_scope = Some(CacheScope::Private);
                Ok(result)
            }
            Err(refusal) => {
                call.end(refusal.code);
                Err(ErrorData::internal_error(refusal.message.clone(), Some(refusal.to_json())))
            }
        }
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(tool) = Tool::find(&request.name) else {
            Call::begin(&self.caller.name, "tools/call").end("invalid_params");
            return Err(ErrorData::invalid_params("there is no tool of this name", None));
        };
        let call = Call::begin(&self.caller.name, tool.name());
        let answer = self.answer(tool, request, &context).await;
        let answer = answer.unwrap_or_else(|refused| refused);
        call.end(answer.outcome());
        answer.into_response()
    }
}
