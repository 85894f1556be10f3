#![doc = include_str!("../README.md")]

pub mod cloudevents;
mod codec;
mod media;

pub use crate::codec::{Json, Raw};
