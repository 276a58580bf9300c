//! `intcred mcp`, over raw HTTP and lines of JSON.
//!
//! | module | concept |
//! | --- | --- |
//! | `scene`, `http`, `stdio` | a server with keys, and the two ways to speak to it |
//! | `tools` | what the tools answer |
//! | `arguments` | bad arguments |
//! | `keys` | making, listing and revoking API keys; who gets in |
//! | `gate` | bad requests of HTTP |
//! | `page` | links and the two calls of the page |
//! | `elicitation` | what each kind of client gets while a person types |
//! | `lines` | bad lines of standard input |
//! | `limits` | too much of it |
//! | `secrets` | nothing is logged or shown |

mod arguments;
mod elicitation;
mod gate;
mod http;
mod keys;
mod limits;
mod lines;
mod page;
mod scene;
mod secrets;
mod stdio;
mod tools;
