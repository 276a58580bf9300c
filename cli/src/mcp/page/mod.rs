//! The page on which a person enters a secret: one constant document, and the two calls of its script.
//!
//! | module | concept |
//! | --- | --- |
//! | `document` | the document, and the headers that shut it in |
//! | `calls` | what a link is for, and storing what was sealed in the browser |
//! | `loopback` | the page of stdio, on this machine |
//! | `peer` | whether the browser is the same user's as this process |

pub mod calls;
pub mod document;
pub mod loopback;
mod peer;
