//! The implementation that is written.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DataUnion, DeriveInput, Error, Fields, Ident, Member, Path, Result, parse_quote};

use crate::attributes::{Key, Settings};

/// `impl Event` for the type of `input`.
pub(crate) fn event(input: &DeriveInput) -> Result<TokenStream> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(
            &input.generics,
            "an event cannot be generic: all its instances would share one type name",
        ));
    }
    if let Data::Union(data) = &input.data {
        return Err(union(data));
    }
    let settings = Settings::read(input)?;
    let krate = settings.krate.unwrap_or_else(|| parse_quote!(::interline));
    let codec = match settings.codec {
        Some(codec) => codec.into_token_stream(),
        None => quote!(#krate::json::Json),
    };
    let schema = match settings.schema {
        Some(schema) => quote!(::core::option::Option::Some(#schema)),
        None => quote!(::core::option::Option::None),
    };
    let key = settings
        .key
        .map(|key| key_of(&key, &input.data, &krate))
        .transpose()?;
    let (event, ty, topic) = (&input.ident, settings.ty, settings.topic);
    Ok(quote! {
        #[automatically_derived]
        impl #krate::Event for #event {
            const TYPE: &'static str = #ty;
            const TOPIC: &'static str = #topic;
            const SCHEMA: ::core::option::Option<&'static str> = #schema;
            type Codec = #codec;

            #key
        }
    })
}

fn key_of(key: &Key, data: &Data, krate: &Path) -> Result<TokenStream> {
    let body = match key {
        Key::Expression(tokens, span) => {
            let krate = at(krate, *span);
            // What the expression makes may not outlive it.
            quote_spanned! {*span=>
                #krate::EventKey::to_key(&(#tokens)).map(|key| key.into_owned().into())
            }
        }
        Key::Field(field) => key_of_field(field, data, krate)?,
    };
    Ok(quote! {
        fn key(&self) -> ::core::option::Option<::std::borrow::Cow<'_, [u8]>> {
            #body
        }
    })
}

fn key_of_field(field: &Member, data: &Data, krate: &Path) -> Result<TokenStream> {
    let span = field.span();
    let krate = at(krate, span);
    match data {
        Data::Struct(data) => {
            find(field, &data.fields, "this event")?;
            Ok(quote_spanned!(span=> #krate::EventKey::to_key(&self.#field)))
        }
        Data::Enum(data) => {
            let arms = data
                .variants
                .iter()
                .map(|variant| {
                    let name: &Ident = &variant.ident;
                    find(field, &variant.fields, &format!("the variant `{name}`"))?;
                    Ok(quote_spanned! {span=>
                        Self::#name { #field: key, .. } => #krate::EventKey::to_key(key),
                    })
                })
                .collect::<Result<TokenStream>>()?;
            Ok(quote!(match self { #arms }))
        }
        Data::Union(data) => Err(union(data)),
    }
}

fn union(data: &DataUnion) -> Error {
    Error::new_spanned(data.union_token, "an event is a struct or an enum")
}

/// The path as if it had been written at `span`, so that an error about the key is shown there
/// alone.
fn at(krate: &Path, span: Span) -> TokenStream {
    krate
        .to_token_stream()
        .into_iter()
        .map(|mut token| {
            token.set_span(span);
            token
        })
        .collect()
}

fn find(field: &Member, fields: &Fields, owner: &str) -> Result<()> {
    if fields.members().any(|known| known == *field) {
        return Ok(());
    }
    let known: Vec<String> = fields
        .members()
        .map(|known| format!("`{}`", known.to_token_stream()))
        .collect();
    let wanted = field.to_token_stream();
    let known = match known.is_empty() {
        true => "it has none".to_owned(),
        false => format!("it has {}", known.join(", ")),
    };
    Err(Error::new_spanned(
        field,
        format!("{owner} has no field `{wanted}`; {known}"),
    ))
}
