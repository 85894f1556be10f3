//! The names of headers that carry attributes.

use std::borrow::Cow;

use interline_core::extension;

use super::Style;

/// The headers of the attributes that are fields of an envelope.
pub(super) struct Core {
    pub(super) id: &'static str,
    pub(super) source: &'static str,
    pub(super) ty: &'static str,
    pub(super) specversion: &'static str,
    pub(super) time: &'static str,
    pub(super) subject: &'static str,
    pub(super) dataschema: &'static str,
    pub(super) content_type: &'static str,
    pub(super) partitionkey: &'static str,
}

static UNDERSCORE: Core = Core {
    id: "ce_id",
    source: "ce_source",
    ty: "ce_type",
    specversion: "ce_specversion",
    time: "ce_time",
    subject: "ce_subject",
    dataschema: "ce_dataschema",
    content_type: "content-type",
    partitionkey: "ce_partitionkey",
};

static DASH: Core = Core {
    id: "ce-id",
    source: "ce-source",
    ty: "ce-type",
    specversion: "ce-specversion",
    time: "ce-time",
    subject: "ce-subject",
    dataschema: "ce-dataschema",
    content_type: "ce-datacontenttype",
    partitionkey: "ce-partitionkey",
};

pub(super) fn core(style: Style) -> &'static Core {
    match style {
        Style::Underscore => &UNDERSCORE,
        Style::Dash => &DASH,
    }
}

/// Attribute, header with underscore, header with dash: those that interline itself sets.
const EXTENSIONS: [(&str, &str, &str); 9] = [
    (
        extension::CORRELATION_ID,
        "ce_correlationid",
        "ce-correlationid",
    ),
    (extension::CAUSATION_ID, "ce_causationid", "ce-causationid"),
    (extension::TENANT_ID, "ce_tenantid", "ce-tenantid"),
    (extension::USER_ID, "ce_userid", "ce-userid"),
    (extension::SESSION_ID, "ce_sessionid", "ce-sessionid"),
    (extension::INSTANCE_ID, "ce_instanceid", "ce-instanceid"),
    (extension::ORIGIN, "ce_origin", "ce-origin"),
    (extension::TRACEPARENT, "ce_traceparent", "ce-traceparent"),
    (extension::TRACESTATE, "ce_tracestate", "ce-tracestate"),
];

/// The header of the extension attribute `name`.
pub(super) fn extension(style: Style, name: &str) -> Cow<'static, str> {
    let known = EXTENSIONS.iter().find(|(attribute, ..)| *attribute == name);
    match (known, style) {
        (Some((_, header, _)), Style::Underscore) | (Some((_, _, header)), Style::Dash) => {
            Cow::Borrowed(header)
        }
        (None, Style::Underscore) => Cow::Owned(format!("ce_{name}")),
        (None, Style::Dash) => Cow::Owned(format!("ce-{name}")),
    }
}

/// The static name of an extension attribute, if it is one that interline itself sets.
pub(super) fn known_extension(name: &str) -> Option<&'static str> {
    let mut names = EXTENSIONS.iter().map(|(attribute, ..)| *attribute);
    names.find(|attribute| *attribute == name)
}

/// What a header stands for.
pub(super) enum Meaning<'a> {
    /// A field of the envelope, by its place in the values of a record.
    Field(usize),
    /// The extension attribute of this name, if the name is legal.
    Extension(&'a [u8]),
    /// Nothing: it is a free header.
    Free,
    /// One of interline's own.
    Own,
}

pub(super) const ID: usize = 0;
pub(super) const SOURCE: usize = 1;
pub(super) const TYPE: usize = 2;
pub(super) const SPECVERSION: usize = 3;
pub(super) const TIME: usize = 4;
pub(super) const SUBJECT: usize = 5;
pub(super) const DATASCHEMA: usize = 6;
pub(super) const CONTENT_TYPE: usize = 7;
pub(super) const PARTITIONKEY: usize = 8;
pub(super) const FIELDS: usize = 9;

pub(super) fn meaning(style: Style, header: &[u8]) -> Meaning<'_> {
    let attribute = match style {
        Style::Underscore => header.strip_prefix(b"ce_"),
        // Some NATS clients write header names in canonical capitals.
        Style::Dash => header
            .split_at_checked(3)
            .filter(|(prefix, _)| prefix.eq_ignore_ascii_case(b"ce-"))
            .map(|(_, attribute)| attribute),
    };
    match attribute {
        Some(b"id") => Meaning::Field(ID),
        Some(b"source") => Meaning::Field(SOURCE),
        Some(b"type") => Meaning::Field(TYPE),
        Some(b"specversion") => Meaning::Field(SPECVERSION),
        Some(b"time") => Meaning::Field(TIME),
        Some(b"subject") => Meaning::Field(SUBJECT),
        Some(b"dataschema") => Meaning::Field(DATASCHEMA),
        Some(b"datacontenttype") if style == Style::Dash => Meaning::Field(CONTENT_TYPE),
        Some(b"partitionkey") => Meaning::Field(PARTITIONKEY),
        Some(other) => Meaning::Extension(other),
        None if header.eq_ignore_ascii_case(b"content-type") => Meaning::Field(CONTENT_TYPE),
        None if is_own(header) => Meaning::Own,
        None => Meaning::Free,
    }
}

/// Whether interline owns the name, in any case.
pub(super) fn is_own(header: &[u8]) -> bool {
    const PREFIX: &[u8] = b"interline-";
    header
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}
