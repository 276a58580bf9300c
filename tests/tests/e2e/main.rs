//! The end-to-end tests: over the wire, against live servers, each as the role that would do it.

mod bulk;
mod cache;
mod canary;
mod catalog;
mod command_line;
mod concurrency;
mod connection;
mod daemon;
mod doctor;
mod dump;
mod extension;
mod fixture;
mod keyring;
mod listen;
mod memory;
mod notify;
mod orgs;
mod privileges;
mod redaction;
mod sealed;
mod service;
mod set;
mod support;
mod sync_handlers;
mod validators;
