//! End to end: real processes, real TLS, real tokens, in a private world per sandbox. Answers are compared with one plain
//! DataFusion session over the same files.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests: a failure is a panic"
)]

mod abuse;
mod agreements;
mod alike;
mod archive;
mod audit;
mod bypass;
mod callers;
mod cells;
mod clients;
mod commands;
mod consent;
mod consent_killed;
mod dummy;
mod events;
mod explain;
mod faults;
mod fields;
mod groups;
mod guard;
mod identity;
mod impostor;
mod independent;
mod joins;
mod learning;
mod limits;
mod linearizable;
mod linkage;
mod links;
mod log_killed;
mod margins;
mod mariadb;
mod missing;
mod mission;
mod operations;
mod oracle;
mod orders;
mod people;
mod persons;
mod postgres;
mod preview;
mod provider;
mod publish;
mod purposes;
mod python;
mod raw;
mod reach;
mod reading;
mod receipts;
mod recording;
mod redteam;
mod rereading;
mod rows_out;
mod sandbox;
mod sign_in;
mod silent;
mod sources;
mod statements;
mod store;
mod succession;
mod travelling;
mod unwitnessed;
mod veto;
mod witness;
