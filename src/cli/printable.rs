//! Words of others, such as an image's, on a terminal: they must not steer it.
use std::fmt::Write as _;

/// Whether a character does something else than being seen: control characters, and marks that turn the direction of
/// writing, so that a line shows something else than it says.
fn steers(c: char) -> bool {
    c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// The text with such characters written as `\u{1b}`.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match steers(c) {
            true => drop(write!(shown, "{}", c.escape_unicode())),
            false => shown.push(c),
        }
    }
    shown
}

/// A JSON document with such characters in its strings escaped; line breaks between its values stay.
pub(super) fn printable_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        // Below that, JSON has escaped them itself.
        match steers(c) && c > '\u{7e}' {
            true => drop(write!(shown, "\\u{:04x}", u32::from(c))),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{202e}ü\u{9b}"), "a\\u{1b}[31mb\\u{202e}ü\\u{9b}");
        let document = serde_json::to_string_pretty(&["\u{1b}", "\u{9b}\u{202e}ü"]).unwrap();
        let shown = printable_json(&document);
        assert!(!shown.contains(['\u{9b}', '\u{202e}']) && shown.contains('ü') && shown.contains('\n'));
        let read: [String; 2] = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, ["\u{1b}", "\u{9b}\u{202e}ü"]);
    }
}
