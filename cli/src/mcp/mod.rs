//! `intcred mcp`: the calls of the extension as tools of the Model Context Protocol.
//!
//! Postgres decides what a caller sees and may do: each caller has a connection of its own role. A secret is typed
//! into a page, sealed in the browser, and never in a tool's arguments or result. Nothing is remembered between
//! requests: the row's revision is the state, so a retry, another replica and a restart all work.
//!
//! | module | concept |
//! | --- | --- |
//! | `stdio`, `http` | the two transports |
//! | `api_key`, `pepper` | an API key, and the password that is made of it |
//! | `callers` | who calls: from an API key to a login |
//! | `pool` | a caller's connections |
//! | `limits` | how much a caller may do at once, and in a second and a minute |
//! | `server` | the protocol's requests, by rmcp |
//! | `tools` | the tools: schemas, arguments, answers |
//! | `entry` | a person's entry of a secret: the link, the wait, and what the client gets meanwhile |
//! | `ticket` | the encrypted content of a link |
//! | `page` | the page, and its two calls |
//! | `refusal` | the form of errors |
//! | `text` | text of other people, made harmless |
//! | `log` | a line on standard error for each call |

pub mod api_key;
mod callers;
mod entry;
mod http;
mod limits;
mod log;
mod page;
pub mod pepper;
mod pool;
mod refusal;
mod server;
mod stdio;
mod text;
mod ticket;
mod tools;

pub use http::{Options, serve as serve_http};
pub use stdio::serve as serve_stdio;
