#![doc = include_str!("../README.md")]

mod attributes;
mod expand;
mod rules;

use proc_macro::TokenStream;

/// Makes a struct or an enum an event; see the [crate] for what stands in `#[event(..)]`.
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: TokenStream) -> TokenStream {
    syn::parse(input)
        .and_then(|input| expand::event(&input))
        .unwrap_or_else(|error| error.into_compile_error())
        .into()
}
