//! `concordat`, the command line: the demonstration, queries, a federation of one's own.
//!
//! Also what the end-to-end tests build their private worlds from: [`sample`] (generated people), [`federation`] (certificates,
//! keys, configurations in a folder), [`launch`] (child processes) and [`client`] (a connection to the gateway).
//!
//! Deliberately absent: decisions. What may be used, shown or released is decided in `policy/`, by the gateway and by the nodes.

mod args;
pub mod client;
mod commands;
pub mod failure;
pub mod federation;
pub mod launch;
mod out;
mod output;
pub mod parameters;
mod progress;
mod run;
pub mod sample;
mod session;
mod table;

pub use args::main;
