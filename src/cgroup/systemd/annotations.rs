//! `org.systemd.property.NAME` annotations: properties of the unit in GVariant's text form, as runc and
//! crun take them, such as `"uint64 5000000"`, `"'inactive-or-failed'"` or `"['a.service']"`.
use super::properties::Property;
use super::wire::{self, Value};
use crate::cgroup::Error;
use std::collections::HashMap;

const PREFIX: &str = "org.systemd.property.";

/// The properties that the annotations ask for, in the order of their names.
pub(super) fn parse(annotations: Option<&HashMap<String, String>>) -> Result<Vec<Property>, Error> {
    let mut asked: Vec<(&str, &str)> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?, text.as_str())))
        .collect();
    asked.sort_unstable();
    asked.into_iter().map(|(name, text)| property(name, text)).collect()
}

fn property(name: &str, text: &str) -> Result<Property, Error> {
    let refuse = |reason: String| Err(Error::config(&format!("annotations[\"{PREFIX}{name}\"]"), reason));
    if name.len() < 3 || !name.chars().all(|c| c.is_ascii_alphabetic()) {
        return refuse("is not the name of a systemd property such as TimeoutStopUSec".to_owned());
    }
    let Some(value) = value(text).filter(|_| wire::is_representable(text)) else {
        return refuse(format!(
            "{text:?} is not a value in GVariant's text form, such as true, 5, uint64 5, 'text' or ['text']"
        ));
    };
    // As on systemd's own command line, seconds are accepted; the bus knows microseconds.
    match name.strip_suffix("Sec").filter(|stem| !stem.ends_with('U')) {
        None => Ok(Property::new(name, value)),
        Some(stem) => match microseconds(&value) {
            Some(time) => Ok(Property::new(format!("{stem}USec"), Value::Uint64(time))),
            None => refuse(format!("{text:?} is not a number of seconds")),
        },
    }
}

fn microseconds(value: &Value) -> Option<u64> {
    const SECOND: u64 = 1_000_000;
    let whole = match *value {
        Value::Byte(seconds) => u64::from(seconds),
        Value::Uint16(seconds) => u64::from(seconds),
        Value::Uint32(seconds) => u64::from(seconds),
        Value::Uint64(seconds) => seconds,
        Value::Int16(seconds) => u64::try_from(seconds).ok()?,
        Value::Int32(seconds) => u64::try_from(seconds).ok()?,
        Value::Int64(seconds) => u64::try_from(seconds).ok()?,
        Value::Double(seconds) if (0.0..1e12).contains(&seconds) => {
            return Some((seconds * SECOND as f64) as u64);
        }
        _ => return None,
    };
    whole.checked_mul(SECOND)
}

/// One value: a type's name and a number, or what tells its type itself.
fn value(text: &str) -> Option<Value> {
    let text = text.trim();
    if let Some(items) = text.strip_prefix('[') {
        return array(items.strip_suffix(']')?);
    }
    if text.starts_with(['\'', '"']) {
        let (quoted, rest) = quoted(text)?;
        return rest.trim().is_empty().then_some(Value::Text(quoted));
    }
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    match text.split_once(char::is_whitespace) {
        Some((kind, rest)) => typed(kind, rest.trim()),
        None if text.contains(['.', 'e', 'E']) => finite(text),
        None => text.parse().ok().map(Value::Int32),
    }
}

fn typed(kind: &str, text: &str) -> Option<Value> {
    let string = || quoted(text).filter(|(_, rest)| rest.trim().is_empty()).map(|(quoted, _)| quoted);
    match kind {
        "boolean" => text.parse().ok().map(Value::Bool),
        "byte" => text.parse().ok().map(Value::Byte),
        "int16" => text.parse().ok().map(Value::Int16),
        "uint16" => text.parse().ok().map(Value::Uint16),
        "int32" | "handle" => text.parse().ok().map(Value::Int32),
        "uint32" => text.parse().ok().map(Value::Uint32),
        "int64" => text.parse().ok().map(Value::Int64),
        "uint64" => text.parse().ok().map(Value::Uint64),
        "double" => finite(text),
        "string" => string().map(Value::Text),
        "objectpath" => string().filter(|path| path.starts_with('/')).map(Value::Path),
        _ => None,
    }
}

fn finite(text: &str) -> Option<Value> {
    text.parse().ok().filter(|value: &f64| value.is_finite()).map(Value::Double)
}

/// Elements of one and the same type; the first one tells it.
fn array(mut text: &str) -> Option<Value> {
    let mut values: Vec<Value> = Vec::new();
    while !text.trim().is_empty() {
        let element = element(text.trim_start())?;
        values.push(value(element)?);
        text = text.trim_start().get(element.len()..)?.trim_start();
        text = match text.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => more,
            None if text.is_empty() => text,
            _ => return None,
        };
    }
    // Without an element there is no type to tell; a list of texts is what properties take mostly.
    let signature = values.first().map_or_else(|| "s".to_owned(), Value::signature);
    values.iter().all(|value| value.signature() == signature).then_some(Value::Array(signature, values))
}

/// What stands before the next comma that is in no quotes. Arrays of arrays are no property's type.
fn element(text: &str) -> Option<&str> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"') => quote = Some(c),
            None if c == '[' => return None,
            None if c == ',' => return text.get(..at),
            None => {}
        }
    }
    quote.is_none().then_some(text)
}

/// A text in quotes, and what comes after it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let mut unquoted = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => unquoted.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            c if c == quote => return Some((unquoted, text.get(at + 1..)?)),
            c => unquoted.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_in_text_form() {
        let text = |text: &str| Value::text(text);
        for (from, to) in [
            ("true", Value::Bool(true)),
            ("5", Value::Int32(5)),
            ("uint64 5", Value::Uint64(5)),
            ("1.5", Value::Double(1.5)),
            ("'a \"b\" \\'c\\''", text("a \"b\" 'c'")),
            ("\"x\"", text("x")),
            ("objectpath '/a'", Value::Path("/a".to_owned())),
            ("['a,b', 'c']", Value::Array("s".to_owned(), vec![text("a,b"), text("c")])),
            ("[]", Value::Array("s".to_owned(), Vec::new())),
        ] {
            assert_eq!(value(from), Some(to), "{from}");
        }
        for bad in [
            "",
            "x",
            "uint64 -1",
            "'a",
            "['a'",
            "['a',]",
            "['a', 1]",
            "[['a']]",
            "'a' b",
            "byte 256",
            "['a' 'b']",
        ] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        assert_eq!(
            property("TimeoutStopSec", "1.5").unwrap(),
            Property::new("TimeoutStopUSec", Value::Uint64(1_500_000))
        );
        assert_eq!(
            property("TimeoutStopUSec", "uint64 7").unwrap(),
            Property::new("TimeoutStopUSec", Value::Uint64(7))
        );
        let error = property("TimeoutStopSec", "'soon'").unwrap_err().to_string();
        assert!(error.starts_with("annotations[\"org.systemd.property.TimeoutStopSec\"]: "), "{error}");
        assert!(property("a/b", "1").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]'\"\\\\, a1é]{0,20}|.*") {
            value(&text);
        }
    }
}
