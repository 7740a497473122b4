# What wharf could leave on a host, compared before and after. Sourced by the scripts beside it.

# One line for each mount, cgroup, network link, nft table and process that could be wharf's.
leftovers_snapshot() {
  awk '{print "mount", $5, "(" $9 ")"}' /proc/self/mountinfo | grep -E 'wharf' || true
  find /sys/fs/cgroup -type d -path '*wharf*' -printf 'cgroup %p\n' 2>/dev/null || true
  ip -o link 2>/dev/null | awk -F': ' '{print "link", $2}' | grep -E 'wharf|^link w[hv]-' || true
  nft list tables 2>/dev/null | grep -E 'wharf' | sed 's/^/nft /' || true
  local line
  for line in /proc/[0-9]*/cmdline; do
    { tr '\0' ' ' <"$line"; } 2>/dev/null | grep -qE '(^|/)(wharf|wharf-oci)( |$)|/tmp/wharf-' &&
      printf 'process %s\n' "$(basename "$(dirname "$line")")"
  done || true
}

# leftovers_since FILE: what is there now and is not in the snapshot FILE, after the moments that dying
# processes and their namespaces may take.
leftovers_since() {
  local left try
  for try in 1 2 3 4 5 6; do
    left=$(leftovers_snapshot | sort | comm -13 <(sort "$1") -)
    [ -n "$left" ] || return 0
    sleep 0.5
  done
  printf '%s\n' "$left"
}
