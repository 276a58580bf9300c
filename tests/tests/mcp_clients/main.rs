//! `intcred mcp` with real clients: the official SDKs, the inspector, the conformance suite, and a browser.
//!
//! | module | concept |
//! | --- | --- |
//! | `scene` | a database, API keys, and servers |
//! | `proxy` | an HTTP proxy that keeps what passes |
//! | `install` | the pinned clients of `tests/clients` |
//! | `script` | a script there that takes a JSON document a line |
//! | `client` | an official SDK |
//! | `browser` | Chromium |

mod browser;
mod client;
mod install;
mod proxy;
mod scene;
mod script;

mod canary;
mod configuration;
mod conformance;
mod inspector;
mod page;
mod replicas;
mod sealing;
mod set;
