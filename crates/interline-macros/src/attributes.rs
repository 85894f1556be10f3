//! What stands in `#[event(..)]`.

use proc_macro2::{Span, TokenStream};
use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{DeriveInput, Error, LitInt, LitStr, Member, Path, Result, Token, Type};

use crate::rules;

/// The settings of one event type, checked.
pub(crate) struct Settings {
    /// The CloudEvents type.
    pub(crate) ty: LitStr,
    /// The topic.
    pub(crate) topic: LitStr,
    /// The key.
    pub(crate) key: Option<Key>,
    /// The schema's URI.
    pub(crate) schema: Option<LitStr>,
    /// The codec, if one is named.
    pub(crate) codec: Option<Type>,
    /// The crate that exports the traits, if one is named.
    pub(crate) krate: Option<Path>,
}

/// Where the key comes from.
pub(crate) enum Key {
    /// A field.
    Field(Member),
    /// An expression over `self`, and where it was written.
    Expression(TokenStream, Span),
}

#[derive(Default)]
struct Given {
    ty: Option<LitStr>,
    topic: Option<LitStr>,
    key: Option<Key>,
    schema: Option<LitStr>,
    version: Option<LitInt>,
    codec: Option<Type>,
    krate: Option<Path>,
}

impl Settings {
    /// The settings in all `#[event(..)]` of `input`.
    pub(crate) fn read(input: &DeriveInput) -> Result<Self> {
        let mut given = Given::default();
        for attribute in &input.attrs {
            if attribute.path().is_ident("event") {
                attribute.parse_nested_meta(|meta| given.take(&meta))?;
            }
        }
        given.check(&input.ident)
    }
}

impl Given {
    fn take(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let name = meta.path.get_ident().map(ToString::to_string);
        match name.as_deref() {
            Some("type") => once(&mut self.ty, meta, value(meta)?),
            Some("topic") => once(&mut self.topic, meta, value(meta)?),
            Some("key") => once(&mut self.key, meta, value(meta)?),
            Some("schema") => once(&mut self.schema, meta, value(meta)?),
            Some("version") => once(&mut self.version, meta, value(meta)?),
            Some("codec") => once(&mut self.codec, meta, value(meta)?),
            Some("crate") => once(&mut self.krate, meta, value(meta)?),
            _ => Err(meta.error(
                "unknown setting: an event has `type`, `topic`, `key`, `schema`, `version`, \
                 `codec` and `crate`",
            )),
        }
    }

    fn check(self, event: &syn::Ident) -> Result<Settings> {
        let schema = self.schema()?;
        let missing = |name: &str, example: &str| {
            let help =
                format!("this event has no `{name}`: add `#[event({name} = \"{example}\")]`");
            Error::new_spanned(event, help)
        };
        // Both may be missing; both are told.
        let (ty, topic) = match (self.ty, self.topic) {
            (Some(ty), Some(topic)) => (ty, topic),
            (Some(_), None) => return Err(missing("topic", "orders")),
            (None, Some(_)) => return Err(missing("type", "shop.order.placed")),
            (None, None) => {
                let mut error = missing("type", "shop.order.placed");
                error.combine(missing("topic", "orders"));
                return Err(error);
            }
        };
        hold(&ty, rules::text)?;
        hold(&topic, rules::topic)?;
        Ok(Settings {
            ty,
            topic,
            key: self.key,
            schema,
            codec: self.codec,
            krate: self.krate,
        })
    }

    fn schema(&self) -> Result<Option<LitStr>> {
        let Some(version) = &self.version else {
            if let Some(schema) = &self.schema {
                hold(schema, rules::text)?;
            }
            return Ok(self.schema.clone());
        };
        if self.schema.is_some() {
            return Err(Error::new_spanned(
                version,
                "`version` makes the URI that `schema` gives: keep one of them",
            ));
        }
        let number: u64 = version.base10_parse()?;
        let ty = self.ty.as_ref().map(LitStr::value).unwrap_or_default();
        if !rules::fits_urn(&ty) {
            return Err(Error::new_spanned(
                version,
                "the type holds a character that no URN has: name the `schema` instead",
            ));
        }
        let uri = format!("urn:event:{ty}:{number}");
        Ok(Some(LitStr::new(&uri, version.span())))
    }
}

impl Parse for Key {
    fn parse(input: syn::parse::ParseStream<'_>) -> Result<Self> {
        if input.peek(LitStr) {
            let text: LitStr = input.parse()?;
            let tokens: TokenStream = text.parse()?;
            if tokens.is_empty() {
                return Err(Error::new_spanned(text, "this expression is empty"));
            }
            return Ok(Self::Expression(tokens, text.span()));
        }
        let key = input.parse().map(Self::Field).map_err(|error| {
            Error::new(
                error.span(),
                "a key is a field, or an expression over `self` in quotes",
            )
        })?;
        if input.is_empty() || input.peek(Token![,]) {
            return Ok(key);
        }
        Err(input
            .error("write a key that is more than a field as an expression over `self` in quotes"))
    }
}

fn value<T: Parse>(meta: &ParseNestedMeta<'_>) -> Result<T> {
    meta.value()?.parse()
}

fn once<T>(slot: &mut Option<T>, meta: &ParseNestedMeta<'_>, value: T) -> Result<()> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(meta.error("this setting is given twice")),
    }
}

fn hold(text: &LitStr, rule: rules::Rule) -> Result<()> {
    rule(&text.value()).map_err(|why| Error::new_spanned(text, why))
}
