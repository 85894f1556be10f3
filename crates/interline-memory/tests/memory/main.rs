//! The memory transport through its public handles.

mod basics;
mod common;
