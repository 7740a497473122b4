//! Sets of small numbers as the kernel writes them, such as `0-3,7`; see cpuset(7) "List format".

/// The numbers of a list, each below `end`; empty entries are left out.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn parse(list: &str, end: usize) -> Result<Vec<usize>, String> {
    let mut numbers = Vec::new();
    for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (first, last) = entry.split_once('-').unwrap_or((entry, entry));
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(format!("{entry:?} is neither a number nor a range such as 0-3"));
        };
        if first > last {
            return Err(format!("the range {entry:?} ends before it starts"));
        }
        if last >= end {
            return Err(format!("{last} is above {}, the largest possible", end - 1));
        }
        numbers.extend(first..=last);
    }
    Ok(numbers)
}

fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn numbers_and_ranges_are_listed() {
        assert_eq!(parse("0-2,7", 8), Ok(vec![0, 1, 2, 7]));
        assert_eq!(parse("", 8), Ok(vec![]));
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for wrong in ["x", "1-", "-1", "3-1", "8", "0-99999999999999999999", "+1", "0x1", "1 2"] {
            assert!(parse(wrong, 8).is_err(), "{wrong}");
        }
    }
}
