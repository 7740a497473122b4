//! Signals by name.
use nix::sys::signal::Signal;

/// glibc keeps 32 and 33 for itself, so this is what programs mean by SIGRTMIN. (For those of musl it is 35.)
const REALTIME_FIRST: i32 = 34;
const REALTIME_LAST: i32 = 64;

/// The number of a signal that is given as `TERM`, `SIGTERM`, `term`, `15`, `RTMIN`, `RTMIN+3` or `RTMAX-2`, as people and
/// images do; see `signal(7)`. `None` for what is no signal.
pub fn number(text: &str) -> Option<i32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|number| (1..=REALTIME_LAST).contains(number));
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        return realtime(REALTIME_FIRST, offset, '+');
    }
    if let Some(offset) = name.strip_prefix("RTMAX") {
        return realtime(REALTIME_LAST, offset, '-');
    }
    let name = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    format!("SIG{name}").parse::<Signal>().ok().map(|signal| signal as i32)
}

fn realtime(base: i32, offset: &str, sign: char) -> Option<i32> {
    let offset = match offset {
        "" => 0,
        _ => {
            let digits = offset.strip_prefix(sign)?;
            let digits = Some(digits).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            digits.parse::<i32>().ok()?
        }
    };
    let signal = if sign == '+' { base.checked_add(offset)? } else { base.checked_sub(offset)? };
    Some(signal).filter(|signal| (REALTIME_FIRST..=REALTIME_LAST).contains(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_mean_the_same_signal() {
        for text in ["KILL", "SIGKILL", "sigkill", "9"] {
            assert_eq!(number(text), Some(libc::SIGKILL), "{text}");
        }
        assert_eq!(number("TERM"), Some(libc::SIGTERM));
        assert_eq!(number("STKFLT"), Some(libc::SIGSTKFLT));
        assert_eq!(number("SYS"), Some(libc::SIGSYS));
        assert_eq!((number("IOT"), number("POLL")), (Some(libc::SIGABRT), Some(libc::SIGIO)));
    }

    #[test]
    fn realtime_signals_count_from_glibcs_ends() {
        assert_eq!(number("RTMIN"), Some(34));
        assert_eq!(number("SIGRTMIN+3"), Some(37));
        assert_eq!(number("RTMAX-1"), Some(63));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "0",
            "65",
            "-9",
            "SIG",
            "NOPE",
            "RTMIN-1",
            "RTMIN+31",
            "RTMIN++1",
            "RTMAX+1",
            "9 ",
            "RTMIN+2147483647",
            "SIGSIGTERM",
        ] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }
}
