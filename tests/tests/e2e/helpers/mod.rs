//! What the tests share.
//!
//! | module | concept |
//! | --- | --- |
//! | `calls` | the SQL functions, as a client calls them |
//! | `fixture` | a database with functions of another owner, and waiting for a session |

pub mod calls;
pub mod fixture;
