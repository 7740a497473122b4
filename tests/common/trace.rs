//! What strace(1) and the kernel tell of a process.

/// One system call of a trace of `strace -f`.
pub(crate) struct TracedCall<'a> {
    pub(crate) pid: &'a str,
    pub(crate) name: &'a str,
    /// What follows the opening parenthesis: arguments and result.
    pub(crate) rest: &'a str,
}

/// The calls of a trace, each where it began. Debug builds look at every descriptor before they close it, which is left
/// out.
pub(crate) fn traced_calls(trace: &str) -> impl Iterator<Item = TracedCall<'_>> {
    trace.lines().filter_map(|line| {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        let (name, rest) = call.split_once('(').filter(|_| !call.starts_with(['<', '+', '-']))?;
        (!rest.contains("F_GETFD")).then_some(TracedCall { pid, name, rest })
    })
}

/// A field of a living process's `smaps_rollup`, in KiB; see proc_pid_smaps(5).
pub(crate) fn memory_kib(pid: i64, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{field}:"))).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
