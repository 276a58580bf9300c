//! Standard input and output: one JSON-RPC message a line. Nothing else is written to standard output.

use super::{
    callers::Caller,
    entry::{Entries, Place},
    page::loopback::Listener,
    pool::Pool,
    server::Server,
    ticket::Tickets,
};
use crate::cli_error::CliError;
use futures_util::{SinkExt, StreamExt};
use intcred::Settings;
use rmcp::{
    RoleServer, ServiceExt,
    model::{ClientJsonRpcMessage, ErrorCode, ErrorData, RequestId, ServerJsonRpcMessage},
    service::ServerInitializeError,
    transport::{
        Transport,
        io::{StdioReader, StdioWriter, stdio_pipes},
    },
};
use serde_json::{Value, error::Category};
use std::{io, sync::Arc};
use tokio::sync::Mutex;
use tokio_util::codec::{FramedRead, FramedWrite, LinesCodec};
use zeroize::Zeroizing;

/// The longest line that is read.
const MAX_LINE: usize = 256 << 10;

/// Serves until standard input ends.
pub async fn serve(settings: Settings, user: String) -> Result<(), CliError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *key).map_err(|error| CliError::Start(error.into()))?;
    let caller = Arc::new(Caller::of_process(settings, user, Pool::new()));
    let entries = Arc::new(Entries::new(Tickets::new(&key), Place::Loopback(Listener::default())));
    if let Some(listener) = entries.loopback() {
        listener.prepare(&caller, &entries);
    }
    let service = Server { caller, entries, place: None };
    match Box::pin(service.serve(Lines::new())).await {
        Ok(running) => {
            // Ends with standard input, whatever the reason.
            let _ = running.waiting().await;
            Ok(())
        }
        Err(ServerInitializeError::ConnectionClosed(_)) => Ok(()),
        // The error would show the message.
        Err(_) => Err(CliError::usage("the client did not begin as an MCP client does", "see docs/mcp.md")),
    }
}

/// The transport. rmcp's own drops a line that is no JSON or too long without an answer.
struct Lines {
    read: FramedRead<StdioReader, LinesCodec>,
    write: Arc<Mutex<FramedWrite<StdioWriter, LinesCodec>>>,
}

impl Lines {
    fn new() -> Self {
        let (read, write) = stdio_pipes();
        Self {
            read: FramedRead::new(read, LinesCodec::new_with_max_length(MAX_LINE)),
            write: Arc::new(Mutex::new(FramedWrite::new(write, LinesCodec::new()))),
        }
    }
}

impl Transport<RoleServer> for Lines {
    type Error = io::Error;

    fn send(
        &mut self,
        message: ServerJsonRpcMessage,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        let write = self.write.clone();
        async move {
            let line = serde_json::to_string(&message)?;
            write.lock().await.send(line).await.map_err(io::Error::other)
        }
    }

    /// The next message; `None` at the end, and after a line that is too long. Safe to cancel.
    async fn receive(&mut self) -> Option<ClientJsonRpcMessage> {
        loop {
            let Ok(line) = self.read.next().await? else {
                let message = format!("a line has more than {MAX_LINE} bytes, or is not UTF-8");
                let error = ErrorData::new(ErrorCode::INVALID_REQUEST, message, None);
                // The connection is over in any case.
                let _ = self.send(ServerJsonRpcMessage::error(error, None)).await;
                return None;
            };
            let line = Zeroizing::new(line);
            if line.trim().is_empty() {
                continue;
            }
            match serde_json::from_str(&line) {
                Ok(message) => return Some(message),
                Err(error) => {
                    let answer = match error.classify() {
                        Category::Data => {
                            let error =
                                ErrorData::new(ErrorCode::INVALID_REQUEST, "this is no request of MCP", None);
                            ServerJsonRpcMessage::error(error, id(&line))
                        }
                        _ => ServerJsonRpcMessage::error(
                            ErrorData::new(ErrorCode::PARSE_ERROR, "the line is not JSON", None),
                            None,
                        ),
                    };
                    self.send(answer).await.ok()?;
                }
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        SinkExt::<String>::flush(&mut *self.write.lock().await).await.map_err(io::Error::other)
    }
}

/// The id of a message that is JSON and no request.
fn id(line: &str) -> Option<RequestId> {
    let message: Value = serde_json::from_str(line).ok()?;
    serde_json::from_value(message.get("id")?.clone()).ok()
}
