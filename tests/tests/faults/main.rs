//! What services must survive. In each test caches and watchers observe a server under load while something breaks; then
//! each cache equals the database, no caller has read an older value than before, nothing was reported that is not in
//! the database's history, and the time that it took is printed.
//!
//! | module | concept |
//! | --- | --- |
//! | `scene` | a server with some keys, and the ways to it |
//! | `truth` | what the database says, and has said |
//! | `load` | changes, by admins who try again |
//! | `observers` | everybody who must agree with the database |
//! | `readers` | callers of a cache, who judge each value |
//! | `reports` | who follows a watcher, and remembers |
//! | `proxy` | a way that can stop carrying without a word |
//! | `pgbouncer` | Debian's pgbouncer in front of a cluster |

mod load;
mod observers;
mod pgbouncer;
mod proxy;
mod readers;
mod reports;
mod scene;
mod truth;

mod converged;
mod failover;
mod lifecycle;
mod logins;
mod network;
mod pooler;
mod queue;
mod server;
mod soak;
