//! What a process inside looks for in every other one that it can see.

/// A script for /bin/sh: until /stop is there it writes each process that it sees to /seen, and each descriptor
/// beyond the standard streams to /found.
pub(crate) const DESCRIPTOR_SCAN: &str = r#"
while [ ! -e /stop ]; do
  for process in /proc/[0-9]*; do
    [ "$process" != /proc/$$ ] || continue
    echo seen >> /seen
    for number in "$process"/fd/[0-9]*; do
      case ${number##*/} in [012] | '[0-9]*') continue ;; esac
      target=$(readlink "$number") && echo "$number -> $target" >> /found
    done
  done
done 2>/dev/null"#;
