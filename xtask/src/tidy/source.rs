//! Just enough of Rust's grammar to measure it.

/// `source` with every comment and the inside of every literal replaced by spaces. Lines stay where they are.
pub(super) fn code_only(source: &str) -> String {
    let chars: Vec<char> = source.chars().collect();
    let mut code = String::with_capacity(source.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        } else {
            code.extend(
                chars[at..end]
                    .iter()
                    .map(|c| if *c == '\n' { '\n' } else { ' ' }),
            );
            at = end;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends, if one begins there.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let rest = &chars[at..];
    let length = match rest {
        ['/', '/', ..] => rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment(rest),
        ['"', ..] => quoted(rest, '"'),
        ['r', '#' | '"', ..] if !continues_word(chars, at) => raw_string(rest)?,
        ['\'', '\\', ..] => quoted(rest, '\''),
        ['\'', _, '\'', ..] => 3,
        _ => return None,
    };
    Some(at + length)
}

/// The `r` of `br"..."` and `cr"..."` begins a raw string as well; that of `for"` cannot be.
fn continues_word(chars: &[char], at: usize) -> bool {
    let before = |n: usize| at.checked_sub(n).map(|i| chars[i]);
    match before(1) {
        Some('b' | 'c') => before(2).is_some_and(is_word),
        other => other.is_some_and(is_word),
    }
}

pub(super) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[char], quote: char) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw_string(rest: &[char]) -> Option<usize> {
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    let open = 1 + hashes;
    // `r#match` is a name, not a string.
    if rest.get(open) != Some(&'"') {
        return None;
    }
    let closes = |at: &usize| {
        rest[*at] == '"' && rest[*at + 1..].iter().take_while(|c| **c == '#').count() >= hashes
    };
    let close = (open + 1..rest.len()).find(closes)?;
    Some((close + 1 + hashes).min(rest.len()))
}

/// How many lines of `code` stand before its inline test module.
pub(super) fn lines_before_tests(code: &str) -> usize {
    let lines: Vec<_> = code.lines().collect();
    let opens_tests = |at: &usize| {
        let item = lines[at + 1..]
            .iter()
            .map(|l| l.trim())
            .find(|l| !l.is_empty() && !l.starts_with("#["));
        lines[*at].trim() == "#[cfg(test)]"
            && item.is_some_and(|l| l.contains("mod ") && l.ends_with('{'))
    };
    (0..lines.len()).find(opens_tests).unwrap_or(lines.len())
}

/// The functions with a body in `code`: the line that each begins in, counted from 1, and how many lines it has.
pub(super) fn functions(code: &str) -> Vec<(usize, usize)> {
    let bytes = code.as_bytes();
    let line_of = |at: usize| 1 + bytes[..at].iter().filter(|b| **b == b'\n').count();
    let starts = code
        .match_indices("fn ")
        .filter(|(at, _)| *at == 0 || !is_word(char::from(bytes[at - 1])));
    let spans = starts.filter_map(|(at, _)| {
        let open = body(bytes, at)?;
        let close = closing(bytes, open)?;
        Some((line_of(at), line_of(close) - line_of(at) + 1))
    });
    spans.collect()
}

/// Where the body of the function at `at` opens; none for a declaration or a function type.
fn body(bytes: &[u8], at: usize) -> Option<usize> {
    if !bytes[at + 3..]
        .first()
        .is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_')
    {
        return None;
    }
    let mut depth = 0;
    for (offset, byte) in bytes[at..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b'{' if depth == 0 => return Some(at + offset),
            b';' if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

fn closing(bytes: &[u8], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (offset, byte) in bytes[open..].iter().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(open + offset);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blanked_and_lines_kept() {
        let source = "a // fn x() {\nb /* { /* } */\n{ */ c \"fn { \\\" }\" d r#\"\"}\"# e '{' f '\\'' g 'a: &'a str";
        let code = code_only(source);
        assert_eq!(code.lines().count(), source.lines().count());
        let words: Vec<_> = code.split_whitespace().collect();
        assert_eq!(
            words,
            ["a", "b", "c", "d", "e", "f", "g", "'a:", "&'a", "str"]
        );
    }

    #[test]
    fn raw_names_are_no_strings() {
        assert_eq!(
            code_only("let r#match = br\"x\";")
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["let", "r#match", "=", "b", ";"]
        );
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let code = "fn a() { 1 }\ntrait T { fn b(&self); }\nimpl X {\n    pub fn c(x: [u8; 2]) -> Y\n    where\n    {\n        z\n    }\n}\n";
        assert_eq!(functions(code), [(1, 1), (4, 5)]);
        assert_eq!(
            functions("type F = fn(u8) -> u8;\nlet f: Box<dyn Fn(u8)> = g;"),
            []
        );
    }

    #[test]
    fn inline_tests_are_a_tail() {
        assert_eq!(
            lines_before_tests("fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n"),
            2
        );
        assert_eq!(
            lines_before_tests("fn a() {}\n#[cfg(test)]\nmod tests;\n"),
            3
        );
        assert_eq!(lines_before_tests("#[cfg(test)]\nuse x;\nfn a() {}\n"), 3);
    }
}
