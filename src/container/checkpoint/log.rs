//! criu's log, read for why it gave up.
use std::path::Path;

/// The line that names the cause of a failure.
pub(super) fn cause(log: &Path) -> Option<String> {
    let text = std::fs::read(log).unwrap_or_default();
    of_text(&String::from_utf8_lossy(&text)).map(str::to_owned)
}

/// Errors with fewer lines between them belong together.
const FAR: usize = 8;

/// The errors that lead to the end stand close together, and the first of them is the cause of the others.
/// What CRIU could do without comes long before them, and what came of giving up after its `FAILED`.
fn of_text(text: &str) -> Option<&str> {
    let (mut cause, mut distance) = (None, FAR);
    for line in text.lines() {
        distance = distance.saturating_add(1);
        if !line.contains("Error (") {
            continue;
        }
        if line.contains(" FAILED.") {
            break;
        }
        if distance > FAR {
            cause = Some(line.trim());
        }
        distance = 0;
    }
    cause
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_the_last_errors_is_the_cause() {
        let between = "(00.2) Dumping something else\n".repeat(20);
        let dump = "\
(00.107740) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
BETWEEN
(00.319161) Error (criu/sk-inet.c:191): inet: Connected TCP socket, consider using --tcp-established option.
(00.319164) ----------------------------------------
(00.319167) Error (criu/cr-dump.c:1681): Dump files (pid: 25366) failed with -1
(00.319170) Waiting for 25366 to trap
(00.480351) Error (criu/cr-dump.c:2111): Dumping FAILED.
(00.480360) Error (criu/net.c:1): what comes of giving up
";
        let dump = &dump.replace("BETWEEN", &between);
        assert!(of_text(dump).is_some_and(|line| line.contains("--tcp-established")), "{:?}", of_text(dump));
        let restore = "\
(00.381799)      1: Error (criu/files-reg.c:2294): File fd/1 has bad mode 020666 (expect 0100644)
File r/w/x checks can be skipped with the --skip-file-rwx-check option
(00.381806)      1: Error (criu/files.c:1221): Unable to open fd=1 id=0x3
(00.383140) Error (criu/cr-restore.c:2320): Restoring FAILED.
";
        assert!(of_text(restore).is_some_and(|line| line.contains("bad mode")), "{:?}", of_text(restore));
        assert_eq!(of_text("(00.1) Running post-dump scripts\n"), None);
    }
}
