//! What the guard of statements and messages must never do: show a value, cost others much, or harm the server. Each test
//! is of a kind that an attacker found.
//!
//! | module | concept |
//! | --- | --- |
//! | [`cost`] | what texts cost, beside a server without the library |
//! | [`shown`] | values in messages, views and statistics |
//! | [`survival`] | what ended sessions, or the server |

mod cost;
mod shown;
mod survival;
