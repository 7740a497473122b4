//! What an instance may hear and reach.

use crate::common::{self, Scratch};

#[test]
fn cve_2020_13401_router_advertisements_are_not_accepted_inside() {
    common::require_root!();
    let scratch = Scratch::new("ra");
    scratch.load("shell");
    let name = scratch.name("ra");
    let show = "for f in /proc/sys/net/ipv6/conf/eth0/accept_ra /proc/sys/net/ipv6/conf/default/accept_ra; do \
                [ ! -e $f ] || cat $f; done; ls /sys/class/net | grep eth0";
    let outcome = scratch.wharf(["run", "--name", &name, "shell", "/bin/sh", "-c", show]).ok();
    let lines: Vec<_> = outcome.text().lines().collect();
    assert_eq!(lines.last(), Some(&"eth0"), "{outcome}");
    assert!(lines[..lines.len() - 1].iter().all(|line| *line == "0"), "{outcome}");
}

#[test]
fn cve_2020_15257_no_control_socket_is_in_the_abstract_namespace() {
    common::require_root!();
    let scratch = Scratch::new("abstract");
    scratch.load("shell");
    let name = scratch.name("web");
    scratch.wharf(["run", "-d", "--name", &name, "--network", "host", "shell", "/bin/sleep", "1000"]).ok();
    let outcome = scratch.wharf(["exec", &name, "/bin/cat", "/proc/net/unix"]).ok();
    let ours = |line: &&str| {
        line.split_whitespace().nth(7).is_some_and(|path| path.starts_with('@') && path.contains("wharf"))
    };
    let reached: Vec<_> = outcome.stdout.lines().filter(ours).collect();
    assert!(outcome.stdout.lines().count() > 1 && reached.is_empty(), "{reached:?}");
}
