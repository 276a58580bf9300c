//! The end-to-end tests: over the wire, against live servers, each as the role that would do it.

mod canary;
mod catalog;
mod client_log;
mod command_line;
mod concurrency;
mod connection;
mod daemon;
mod doctor;
mod dump;
mod extension;
mod fixture;
mod keyring;
mod leaks;
mod listen;
mod memory;
mod notify;
mod orgs;
mod privileges;
mod redaction;
mod sealed;
mod set;
mod support;
mod sync_handlers;
mod validators;
