//! Words of a Dockerfile's instruction: blanks part them, quotation marks and backslashes keep blanks in
//! them, and `$NAME`, `${NAME}`, `${NAME:-word}` and `${NAME:+word}` stand for variables.

/// A word as written, quotation marks and all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word(Vec<char>);

/// Where the walk over a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quote {
    None,
    Single,
    Double,
}

impl Word {
    /// Blanks and all.
    pub(super) fn whole(text: &str) -> Self {
        Self(text.chars().collect())
    }

    /// Both sides of the first `=` outside of quotation marks.
    pub(super) fn split_at_equals(&self) -> Option<(Self, Self)> {
        let mut quote = Quote::None;
        let mut at = 0;
        while at < self.0.len() {
            match (self.0[at], quote) {
                ('\\', Quote::None | Quote::Double) => at += 1,
                ('=', Quote::None) => {
                    return Some((Self(self.0[..at].to_vec()), Self(self.0[at + 1..].to_vec())));
                }
                (c, _) => quote = quote.after(c),
            }
            at += 1;
        }
        None
    }
}

impl Quote {
    fn after(self, c: char) -> Self {
        match (self, c) {
            (Self::None, '\'') => Self::Single,
            (Self::None, '"') => Self::Double,
            (Self::Single, '\'') | (Self::Double, '"') => Self::None,
            (same, _) => same,
        }
    }
}

/// Parts a text at its blanks.
pub(super) fn words(text: &str) -> Result<Vec<Word>, String> {
    let mut found = Vec::new();
    let mut word = Vec::new();
    let mut quote = Quote::None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() && quote == Quote::None {
            if !word.is_empty() {
                found.push(Word(std::mem::take(&mut word)));
            }
            continue;
        }
        word.push(c);
        if c == '\\' && quote != Quote::Single {
            word.extend(chars.next());
        } else {
            quote = quote.after(c);
        }
    }
    if quote != Quote::None {
        return Err("has a quotation mark that is not closed".to_owned());
    }
    if !word.is_empty() {
        found.push(Word(word));
    }
    Ok(found)
}

/// The word's value. Nothing within single quotation marks is replaced, and nothing after a backslash.
pub(super) fn expand(word: &Word, variables: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut value = String::new();
    let mut quote = Quote::None;
    let mut at = 0;
    while let Some(&c) = word.0.get(at) {
        at += 1;
        match (c, quote) {
            ('\\', Quote::None) => {
                value.extend(word.0.get(at));
                at += 1;
            }
            // Within double quotation marks a backslash is one, unless it takes something's meaning.
            ('\\', Quote::Double) => match word.0.get(at) {
                Some(&c @ ('"' | '\\' | '$')) => {
                    value.push(c);
                    at += 1;
                }
                _ => value.push('\\'),
            },
            ('$', Quote::None | Quote::Double) => {
                let (text, length) = variable(&word.0[at..], variables)?;
                value.push_str(&text);
                at += length;
            }
            (c, before) => {
                quote = before.after(c);
                if quote == before {
                    value.push(c);
                }
            }
        }
    }
    match quote {
        Quote::None => Ok(value),
        _ => Err("has a quotation mark that is not closed".to_owned()),
    }
}

/// What follows a `$`: its value and how many characters it takes.
fn variable(text: &[char], variables: &dyn Fn(&str) -> Option<String>) -> Result<(String, usize), String> {
    let part_of_name = |c: &&char| c.is_ascii_alphanumeric() || **c == '_';
    let name_of = |text: &[char]| text.iter().take_while(part_of_name).collect::<String>();
    if text.first() != Some(&'{') {
        let name = name_of(text);
        let value = if name.is_empty() { "$".to_owned() } else { variables(&name).unwrap_or_default() };
        return Ok((value, name.len()));
    }
    let name = name_of(&text[1..]);
    let rest = &text[1 + name.len()..];
    let end = closing(rest).ok_or("has a ${ without its closing brace")?;
    let length = 1 + name.len() + end + 1;
    let value = variables(&name).filter(|value| !value.is_empty());
    let inner: String = rest[..end].iter().collect();
    let other = |word: &str| expand(&Word::whole(word), variables);
    if name.is_empty() {
        return Err("has a ${ without a name".to_owned());
    }
    let value = if inner.is_empty() {
        value.unwrap_or_default()
    } else if let Some(word) = inner.strip_prefix(":-") {
        value.map_or_else(|| other(word), Ok)?
    } else if let Some(word) = inner.strip_prefix(":+") {
        value.map_or(Ok(String::new()), |_| other(word))?
    } else {
        return Err(format!("has ${{{name}{inner}}}, where only :- and :+ may follow a name"));
    };
    Ok((value, length))
}

/// Where the brace that was opened before is closed.
fn closing(text: &[char]) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, c) in text.iter().enumerate() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<String, String> {
        let variables = |name: &str| match name {
            "A" => Some("1".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand(&Word::whole(text), &variables)
    }

    #[test]
    fn variables_stand_for_their_values() {
        for (text, expected) in [
            ("$A", "1"),
            ("x${A}y", "x1y"),
            ("$B", ""),
            ("$", "$"),
            ("$-", "$-"),
            ("\\$A", "$A"),
            ("'$A'", "$A"),
            ("\"$A\"", "1"),
            ("\"\\$A \\n\"", "$A \\n"),
            ("${B:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${A:-x}", "1"),
            ("${A:+x}", "x"),
            ("${B:+x}", ""),
            ("${B:-${A}}", "1"),
        ] {
            assert_eq!(value(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["${A", "${}", "${A?x}", "\"a"] {
            assert!(value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn blanks_part_words_unless_they_are_quoted() {
        let texts = |text: &str| -> Vec<String> {
            words(text).unwrap().iter().map(|word| word.0.iter().collect()).collect()
        };
        assert_eq!(texts(" a  'b c' d\\ e "), ["a", "'b c'", "d\\ e"]);
        assert_eq!(texts(""), [""; 0]);
        assert!(words("'a").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[$a{}:\\\\'\" +-]{0,30}") {
            for word in words(&text).unwrap_or_default() {
                let _ = expand(&word, &|_| None);
            }
        }
    }
}
