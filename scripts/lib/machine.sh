# What a machine must have before anything of wharf is built or run. Sourced by the scripts beside it.

# Messages go to stderr, so that a script's output stays its own.
say() { printf '%s\n' "$*" >&2; }
fail() { say "$(basename "$0"): $*"; exit 1; }

# The oldest kernel wharf supports; docs/kernel-features.md says why.
needs_kernel() {
  local release major minor
  [ "$(uname -s)" = Linux ] || fail "wharf runs on Linux; this is $(uname -s)"
  release=$(uname -r)
  major=${release%%.*}
  minor=${release#*.}
  minor=${minor%%[!0-9]*}
  if [ "$major" -lt 5 ] || { [ "$major" -eq 5 ] && [ "$minor" -lt 15 ]; }; then
    fail "kernel $release is too old; wharf needs Linux 5.15 or newer"
  fi
}

# needs_root HINT: HINT says what can be done without.
needs_root() {
  [ "$(id -u)" -eq 0 ] || fail "must run as root (namespaces, mounts and cgroups are made for real): sudo $0${1:+; $1}"
}

# needs_packages NAME...: installs Debian packages that are missing.
needs_packages() {
  command -v dpkg-query >/dev/null || fail "needs Debian or Ubuntu for its packages; elsewhere install: $*"
  local missing=() name
  for name in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$name" 2>/dev/null | grep -q '^installed$' || missing+=("$name")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing packages: ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null 2>&1 && return
  apt-get update -qq || fail "apt-get update failed; the packages needed are: ${missing[*]}"
  apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null || fail "cannot install: ${missing[*]}"
}

rust_is_here() {
  local minor
  minor=$(rustc --version 2>/dev/null | sed -n 's/^rustc 1\.\([0-9]*\)\..*/\1/p')
  command -v cargo >/dev/null && [ "${minor:-0}" -ge 88 ]
}

# needs_rust [install]: cargo with Rust 1.88 or newer; with `install`, fetched through rustup when missing.
needs_rust() {
  local home
  for home in "$HOME" ${SUDO_USER:+"$(getent passwd "$SUDO_USER" | cut -d: -f6)"}; do
    PATH=$PATH:$home/.cargo/bin
  done
  if ! rust_is_here && [ "${1:-}" = install ]; then
    install_rust
    PATH=$HOME/.cargo/bin:$PATH
  fi
  rust_is_here || fail "needs cargo with Rust 1.88 or newer ($(rustc --version 2>/dev/null || echo none is here)); see https://rustup.rs"
  needs_musl "$@"
}

# needs_musl [install]: what is built, tested and measured is linked with musl (docs/decisions/014-musl.md), unless its
# standard library for Rust is not here and cannot be fetched: then with what cargo takes by itself.
needs_musl() {
  local target library
  target=$(uname -m)-unknown-linux-musl
  library=$(rustc --print sysroot)/lib/rustlib/$target
  if [ "${1:-}" = install ]; then
    [ -d "$library" ] || rustup --quiet target add "$target" >&2 || true
    needs_packages musl-tools
  fi
  if [ -d "$library" ]; then
    export CARGO_BUILD_TARGET=$target
  else
    say "SKIPPED: linking with musl: rustup has no $target here; programs start slower"
  fi
}

# Debian 13 and Ubuntu 24.04 have a package; else the installer itself, checked against its published digest.
install_rust() {
  say "installing Rust through rustup"
  if apt-cache show rustup >/dev/null 2>&1; then
    needs_packages rustup
    rustup default stable >/dev/null
    return
  fi
  local base work expected
  base=https://static.rust-lang.org/rustup/dist/$(uname -m)-unknown-linux-gnu
  work=$(mktemp -d)
  needs_packages ca-certificates curl
  expected=$(curl -fsS "$base/rustup-init.sha256" | cut -d' ' -f1) && curl -fsS -o "$work/rustup-init" "$base/rustup-init" ||
    fail "cannot fetch Rust; install it from https://rustup.rs and run this again"
  [ "$(sha256sum "$work/rustup-init" | cut -d' ' -f1)" = "$expected" ] || fail "the Rust installer does not have its published digest"
  chmod +x "$work/rustup-init"
  "$work/rustup-init" -y --profile minimal --component clippy --component rustfmt >/dev/null
  rm -rf "$work"
}
