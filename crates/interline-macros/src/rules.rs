//! The rules of names, as `interline-core` has them.
//!
//! They stand here once more because a macro that linked the core would build it a second time,
//! for the compiler; a test below holds both together.

/// Says what is wrong with a text, if anything is.
pub(crate) type Rule = fn(&str) -> Result<(), &'static str>;

/// Checks the name of a topic.
pub(crate) fn topic(name: &str) -> Result<(), &'static str> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.len() > 120 {
        return Err("this topic is too long: use at most 120 bytes");
    }
    if !name
        .split('.')
        .all(|token| !token.is_empty() && token.bytes().all(legal))
    {
        return Err("this is no legal topic: use A-Z a-z 0-9 - _ in tokens joined by single dots");
    }
    if name.ends_with(".retry") || name.ends_with(".dlq") {
        return Err("this topic ends in a reserved word: leave `.retry` and `.dlq` to interline");
    }
    Ok(())
}

/// Checks the text of `type` or `dataschema`.
pub(crate) fn text(text: &str) -> Result<(), &'static str> {
    let legal = |character: char| {
        let code = u32::from(character);
        let noncharacter = code & 0xFFFE == 0xFFFE || (0xFDD0..=0xFDEF).contains(&code);
        !character.is_control() && !noncharacter
    };
    if text.is_empty() {
        return Err("this is empty");
    }
    if text.len() > 1_024 {
        return Err("this is too long: use at most 1024 bytes");
    }
    if !text.chars().all(legal) {
        return Err("this holds a control character or noncharacter");
    }
    Ok(())
}

/// Whether `text` may stand in a URN as it is (RFC 8141, without percent-encoding).
pub(crate) fn fits_urn(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$'()*+,;=:@&/".contains(&byte))
}

#[cfg(test)]
mod tests {
    use interline_core::{Topic, check_text};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn topics_are_those_of_the_core(name in "[a-zé.~-]{0,8}(\\.retry|\\.dlq|x{110,125})?") {
            prop_assert_eq!(super::topic(&name).is_ok(), Topic::new(&name).is_ok());
        }

        #[test]
        fn texts_are_those_of_the_core(
            text in prop_oneof![any::<String>(), "x{1020,1030}", "[a-z\u{fdd0}\u{7f}\u{1fffe}]{0,4}"],
        ) {
            prop_assert_eq!(super::text(&text).is_ok(), check_text("type", &text).is_ok());
        }
    }
}
