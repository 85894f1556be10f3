//! The last guard against secrets in messages.
//!
//! The library shows no credentials. What a user typed in the wrong place (a URL as an argument
//! that is none) comes back in the parser's messages, so everything passes here.

/// `text` on one line, with the credentials and queries of URLs replaced by `***`.
pub(crate) fn redacted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        shown.push_str(before);
        let end = after
            .find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"' | '`' | '<' | '>'))
            .unwrap_or(after.len());
        let (url, behind) = after.split_at(end);
        hide(url, &mut shown);
        rest = behind;
    }
    shown.push_str(rest);
    one_line(&shown)
}

/// A password may hold an unencoded `/` or `?`, so everything before the last `@` goes.
fn hide(url: &str, shown: &mut String) {
    let url = match url.rsplit_once('@') {
        Some((_, host)) => {
            shown.push_str("***@");
            host
        }
        None => url,
    };
    match url.split_once('?') {
        Some((path, query)) if !query.is_empty() => {
            shown.push_str(path);
            shown.push_str("?***");
        }
        _ => shown.push_str(url),
    }
}

/// Control characters would break the line or reach the terminal.
pub(crate) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_queries_never_show() {
        for (text, shown) in [
            ("no url", "no url"),
            ("`kafka://a:9092/x`", "`kafka://a:9092/x`"),
            (
                "unexpected 'kafka://ada:s3cret@a?sasl=x' found",
                "unexpected 'kafka://***@a?***' found",
            ),
            ("kafka://ada:p/a?s@s@host", "kafka://***@host"),
            ("two\nlines\u{1b}[2J", "two\\nlines\\u{1b}[2J"),
        ] {
            assert_eq!(redacted(text), shown);
        }
    }
}
