//! Values of options as people type them.
use crate::service::UpperKind;
use anyhow::{Context as _, bail};
use std::time::Duration;

/// Bytes: `64M`, `64MiB`, `1.5G` or a plain number; letters mean powers of 1024.
pub(super) fn size(text: &str) -> anyhow::Result<u64> {
    let bytes = parse_size::Config::new().with_binary().parse_size(text);
    bytes.ok().with_context(|| {
        format!("{text:?} is not a size; write bytes, or a number with K, M or G, such as 64M")
    })
}

/// `disk`, `tmpfs` or `tmpfs:SIZE`.
pub(super) fn upper(text: &str) -> anyhow::Result<UpperKind> {
    match text.split_once(':').unwrap_or((text, "")) {
        ("disk", "") if !text.contains(':') => Ok(UpperKind::Disk),
        ("tmpfs", "") if !text.contains(':') => Ok(UpperKind::Memory { size_bytes: None }),
        ("tmpfs", bytes) => match size(bytes)? {
            // tmpfs(5) takes 0 for no limit.
            0 => bail!("{text:?} has no room for anything"),
            bytes => Ok(UpperKind::Memory { size_bytes: Some(bytes) }),
        },
        _ => bail!("{text:?} is neither disk nor tmpfs[:SIZE], such as tmpfs:64M"),
    }
}

/// How many at once: one to sixteen.
pub(super) fn size_of_group(text: &str) -> anyhow::Result<usize> {
    let count = text.parse().ok().filter(|count| (1..=16).contains(count));
    count.with_context(|| format!("{text:?} is not a number from 1 to 16"))
}

/// CPUs with up to three decimals, as thousandths: `0.5` is 500.
pub(super) fn cpus(text: &str) -> anyhow::Result<u64> {
    let most = std::thread::available_parallelism().map_or(u64::MAX, |count| count.get() as u64 * 1000);
    let millis =
        thousandths(text).with_context(|| format!("{text:?} is not a number of CPUs, such as 0.5 or 2"))?;
    if millis < 10 {
        bail!("{text:?} is less than the least the kernel can grant, 0.01");
    }
    if millis > most {
        bail!("{text:?} is more than this machine has; give at most {}", most / 1000);
    }
    Ok(millis)
}

fn thousandths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || fraction.len() > 3 || whole.len() + fraction.len() == 0 {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction: u64 = format!("{fraction:0<3}").parse().ok()?;
    whole.checked_mul(1000)?.checked_add(fraction)
}

/// Seconds, with a fraction perhaps: `10`, `0.5`.
pub(super) fn seconds(text: &str) -> anyhow::Result<Duration> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.with_context(|| format!("{text:?} is not a number of seconds"))
}

/// `KEY=VALUE`.
pub(super) fn key_value(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !text.contains('\0') => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => bail!("{text:?} is not KEY=VALUE"),
    }
}

/// `KEY=VALUE`, or `KEY` for the caller's own value of it.
pub(super) fn environment(text: &str) -> anyhow::Result<(String, String)> {
    if text.contains('=') {
        return key_value(text);
    }
    match std::env::var(text) {
        Ok(value) => Ok((text.to_owned(), value)),
        Err(_) => bail!("{text:?} is not KEY=VALUE, and this shell has no variable of that name"),
    }
}

/// A host name, hostname(7): letters, digits, hyphens and dots, at most 64.
pub(super) fn hostname(text: &str) -> anyhow::Result<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) || text.starts_with(['-', '.']) {
        bail!("{text:?} is not a host name: letters, digits, hyphens and dots, at most 64");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_whatever_the_spelling() {
        for (text, bytes) in
            [("64M", 64 << 20), ("64MiB", 64 << 20), ("64m", 64 << 20), ("1g", 1 << 30), ("4096", 4096)]
        {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "-1", "lots", "64X"] {
            assert!(size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_upper_is_disk_or_memory_of_a_size() {
        assert_eq!(upper("disk").unwrap(), UpperKind::Disk);
        assert_eq!(upper("tmpfs").unwrap(), UpperKind::Memory { size_bytes: None });
        assert_eq!(upper("tmpfs:1M").unwrap(), UpperKind::Memory { size_bytes: Some(1 << 20) });
        for text in ["", "memory", "disk:", "disk:1M", "tmpfs:", "tmpfs:0", "tmpfs:x"] {
            assert!(upper(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn cpus_are_counted_in_thousandths() {
        for (text, millis) in [("1", 1000), ("0.5", 500), (".25", 250), ("0.01", 10), ("0.125", 125)] {
            assert_eq!(cpus(text).unwrap(), millis, "{text}");
        }
        for text in ["", ".", "0", "-1", "0.001", "1.2345", "1e3", "100000", "NaN", "inf"] {
            assert!(cpus(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn seconds_are_finite_and_not_negative() {
        assert_eq!(seconds("1.5").unwrap(), Duration::from_millis(1500));
        for text in ["", "-1", "inf", "NaN", "x"] {
            assert!(seconds(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_host_name_adds_no_line_to_the_hosts_file() {
        assert!(hostname("web-1.example").is_ok());
        for text in ["", "a b", "a\n1.2.3.4 b", "-a", &"x".repeat(65)] {
            assert!(hostname(text).is_err(), "{text:?}");
        }
    }
}
