//! `StopSignal` of an image: a name or a number.
use oci_spec::image::ImageConfiguration;

/// The first and last real-time signal, signal(7), without those that glibc keeps.
const RTMIN: i32 = 34;
const RTMAX: i32 = 64;

/// The image's stop signal, SIGTERM where it states none that exists.
pub(in crate::image) fn stop_signal(image: &ImageConfiguration) -> i32 {
    let stated = image.config().as_ref().and_then(|config| config.stop_signal().as_deref());
    stated.and_then(parse).unwrap_or(libc::SIGTERM)
}

/// Whether a text is the name or number of a signal.
pub(in crate::image) fn is_signal(text: &str) -> bool {
    parse(text).is_some()
}

fn parse(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=RTMAX).contains(&number).then_some(number);
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |base: i32, offset: &str| match offset {
        "" => Some(base),
        offset => Some(base + offset.parse::<i32>().ok()?),
    };
    let number = if let Some(offset) = name.strip_prefix("RTMIN") {
        real_time(RTMIN, offset)?
    } else if let Some(offset) = name.strip_prefix("RTMAX") {
        real_time(RTMAX, offset)?
    } else {
        return format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32);
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals() {
        for (text, number) in [
            ("SIGQUIT", Some(3)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGRTMIN+3", Some(37)),
            ("RTMAX-1", Some(63)),
            ("RTMAX+1", None),
            ("0", None),
            ("99999999999", None),
            ("SIGNO", None),
        ] {
            assert_eq!(parse(text), number, "{text}");
        }
    }
}
