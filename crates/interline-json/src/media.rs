//! Media types, as far as they decide how bytes are read.

/// Whether the media type declares JSON: `*/json` or `*/*+json`, whatever its parameters.
pub(crate) fn is_json(content_type: &str) -> bool {
    subtype(content_type)
        .is_some_and(|subtype| subtype.eq_ignore_ascii_case("json") || has_suffix(subtype, "+json"))
}

/// Whether the media type declares text that people read: `text/*`, `*/xml` or `*/*+xml`.
pub(crate) fn is_text(content_type: &str) -> bool {
    let text = content_type
        .split_once('/')
        .is_some_and(|(family, _)| family.trim().eq_ignore_ascii_case("text"));
    text || subtype(content_type)
        .is_some_and(|subtype| subtype.eq_ignore_ascii_case("xml") || has_suffix(subtype, "+xml"))
}

/// Whether the text of the media type is in UTF-8, by its `charset` or because it names none.
pub(crate) fn is_utf8(content_type: &str) -> bool {
    content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, value)| value.trim().trim_matches('"'))
        .all(|charset| {
            ["utf-8", "utf8", "us-ascii", "ascii"]
                .iter()
                .any(|known| charset.eq_ignore_ascii_case(known))
        })
}

fn subtype(content_type: &str) -> Option<&str> {
    let essence = content_type.split(';').next()?;
    let (family, subtype) = essence.split_once('/')?;
    (!family.trim().is_empty()).then_some(subtype.trim())
}

fn has_suffix(subtype: &str, suffix: &str) -> bool {
    subtype.len() > suffix.len()
        && subtype
            .get(subtype.len() - suffix.len()..)
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_the_subtype() {
        for yes in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "text/json",
            "application/vnd.shop+json;v=1",
            "application/cloudevents+JSON",
        ] {
            assert!(is_json(yes), "{yes}");
        }
        for no in [
            "",
            "json",
            "/json",
            "application/jsonx",
            "application/+json",
            "text/plain;x=a/json",
            "application/octet-stream",
            "application/é+json é",
        ] {
            assert!(!is_json(no), "{no}");
        }
    }

    #[test]
    fn charset_is_read_from_the_parameters() {
        assert!(is_utf8("text/plain"));
        assert!(is_utf8("text/plain; Charset=\"UTF-8\"; format=flowed"));
        assert!(!is_utf8("text/plain;charset=iso-8859-1"));
        assert!(is_text("text/csv") && is_text("image/svg+xml") && is_text("application/xml"));
        assert!(!is_text("application/octet-stream"));
    }
}
