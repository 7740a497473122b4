//! Socket activation: descriptors that a service manager passed to us go on to the container, as with
//! runc; see sd_listen_fds(3).
use oci_spec::runtime::Process;

/// Descriptors 3..3+count, meant for this process.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ListenFds {
    pub(super) count: u32,
    names: Option<String>,
}

impl ListenFds {
    /// What the environment says, unless it speaks to another process.
    pub(super) fn received() -> Self {
        Self::parse(|name| std::env::var(name).ok(), std::process::id)
    }

    fn parse(variable: impl Fn(&str) -> Option<String>, own_pid: impl Fn() -> u32) -> Self {
        let number = |name: &str| variable(name).and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID").is_none_or(|pid| pid != own_pid()) {
            return Self::default();
        }
        let count = number("LISTEN_FDS").unwrap_or(0);
        Self { count, names: variable("LISTEN_FDNAMES").filter(|_| count > 0) }
    }

    /// Tells the container's program, which is process 1 of its pid namespace.
    pub(super) fn announce(&self, process: &mut Process) {
        if self.count == 0 {
            return;
        }
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !entry.starts_with("LISTEN_"));
        env.extend([format!("LISTEN_FDS={}", self.count), "LISTEN_PID=1".to_owned()]);
        env.extend(self.names.as_ref().map(|names| format!("LISTEN_FDNAMES={names}")));
        process.set_env(Some(env));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(pid: &str, count: &str) -> ListenFds {
        let (pid, count) = (pid.to_owned(), count.to_owned());
        let variable = move |name: &str| match name {
            "LISTEN_PID" => Some(pid.clone()),
            "LISTEN_FDS" => Some(count.clone()),
            "LISTEN_FDNAMES" => Some("web".to_owned()),
            _ => None,
        };
        ListenFds::parse(variable, || 42)
    }

    #[test]
    fn only_what_is_meant_for_this_process_is_taken() {
        assert_eq!(received("42", "2"), ListenFds { count: 2, names: Some("web".to_owned()) });
        for (pid, count) in [("41", "2"), ("", "2"), ("42", "x"), ("42", "-1"), ("42", "0")] {
            assert_eq!(received(pid, count), ListenFds::default(), "{pid} {count}");
        }
    }

    #[test]
    fn the_program_is_told_as_process_one() {
        let mut process = Process::default();
        process.set_env(Some(vec!["A=1".to_owned(), "LISTEN_PID=9".to_owned()]));
        received("42", "1").announce(&mut process);
        let expected = ["A=1", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=web"].map(str::to_owned);
        assert_eq!(process.env().as_deref(), Some(expected.as_slice()));
    }
}
