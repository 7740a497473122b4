//! hosts.toml: mirrors before the registry, and what they may be asked for.
use crate::common::{self, Scratch};
use crate::images::Made;
use crate::standin::{Content, Reply, StandIn};
use crate::{auths, docker_config, hosts_toml, wharf};

#[test]
fn a_mirror_serves_and_the_registry_stands_in_where_it_cannot() {
    common::require_root!();
    let scratch = Scratch::new("mirror");
    let image = Made::new(30, &[5000, 6000]);
    let (content, all) = (Content::of(&image), Content::of(&image));
    let lacking = image.layer(1).0.clone();
    let damaged = image.layer(0).0.clone();
    let mirror = StandIn::start(move |seen| match () {
        () if seen.target.contains(&lacking) => Reply::new(404, ""),
        () if seen.target.contains(&damaged) => {
            let mut reply = content.answer(seen);
            reply.body[7] ^= 1;
            reply
        }
        () => content.answer(seen),
    });
    let server = StandIn::start(move |seen| all.answer(seen));
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}\"]\ncapabilities = [\"pull\", \"resolve\"]",
        server.host(),
        mirror.host()
    );
    hosts_toml(&scratch, "registry.example", &text);
    // Passwords are of the host that is asked, not of the registry that it stands for.
    docker_config(&scratch, &auths("registry.example", "ann", "pw"));
    let pulled = wharf(&scratch, ["pull", "registry.example/team/a:1"]).ok();
    assert!(pulled.stderr.contains("warning") && pulled.stderr.contains("has digest"), "{pulled}");
    assert_eq!(mirror.seen_of("GET", "/manifests/1").len(), 1);
    assert!(mirror.seen().iter().all(|seen| seen.target.ends_with("?ns=registry.example")));
    let at_server: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(at_server.len(), 2, "{at_server:?}");
    assert!(
        at_server.iter().all(|target| target.contains("/blobs/") && !target.contains("ns=")),
        "{at_server:?}"
    );

    // A mirror that is down is passed over.
    let (mirror_host, server_host) = (mirror.host(), server.host());
    drop(mirror);
    let scratch = Scratch::new("down");
    hosts_toml(&scratch, "registry.example", &text);
    let pulled = wharf(&scratch, ["pull", "registry.example/team/a:1"]).ok();
    assert!(pulled.stderr.contains(&mirror_host), "{pulled}");
    assert!(server_host == server.host() && server.seen_of("GET", "/manifests/1").len() == 1);
}

#[test]
fn a_mirror_is_not_asked_for_what_it_may_not_be_asked_for() {
    common::require_root!();
    let scratch = Scratch::new("able");
    let image = Made::new(31, &[5000]);
    let (content, all) = (Content::of(&image), Content::of(&image));
    let mirror = StandIn::start(move |seen| content.answer(seen));
    let server = StandIn::start(move |seen| all.answer(seen));
    let text = format!(
        "server = \"http://{}\"\n[host.\"http://{}/mirror\"]\ncapabilities = [\"pull\"]\noverride_path = true\n\
         [host.\"http://{}/mirror\".header]\nX-Team = \"blue\"",
        server.host(),
        mirror.host(),
        mirror.host()
    );
    hosts_toml(&scratch, "_default", &text);
    wharf(&scratch, ["pull", "registry.example:81/a:1"]).ok();
    // The tag is resolved by the registry, its content comes from the mirror.
    assert_eq!(server.seen().len(), 1);
    let seen = mirror.seen();
    assert_eq!(seen.len(), 2);
    for seen in seen {
        assert!(seen.target.starts_with("/mirror/a/blobs/sha256:"), "{}", seen.target);
        assert_eq!(seen.header("x-team"), Some("blue"));
    }
    // Docker Hub's short names, and its own mirror.
    let scratch = Scratch::new("hub");
    hosts_toml(&scratch, "docker.io", &format!("server = \"http://{}\"", mirror.host()));
    wharf(&scratch, ["pull", "a:1"]).ok();
    assert_eq!(mirror.seen_of("GET", "/v2/library/a/manifests/1").len(), 1);
    let listed = scratch.wharf(["images", "--json"]).ok().json();
    assert_eq!(listed[0]["reference"], "a:1");
}

#[test]
fn a_proxy_is_used_for_what_is_beyond_this_machine() {
    common::require_root!();
    let scratch = Scratch::new("proxy");
    let proxy = StandIn::start(|_| Reply::new(502, ""));
    let address = format!("http://{}", proxy.host());
    let pull = |name: &str| wharf(&scratch, ["pull", "--retry", "0", name]).env("HTTPS_PROXY", &address);
    pull("registry.example/a:1").fails_with(&["registry.example"]);
    let seen = proxy.seen();
    assert!(
        seen.len() == 1 && seen[0].method == "CONNECT" && seen[0].target.contains("registry.example"),
        "{seen:?}"
    );
    pull("registry.example/a:1").env("NO_PROXY", "registry.example").fails_with(&["registry.example"]);
    pull("127.0.0.1:1/a:1").fails_with(&["Connection refused"]);
    assert_eq!(proxy.seen().len(), 1);
}

#[test]
fn a_file_that_is_wrong_is_told() {
    common::require_root!();
    let scratch = Scratch::new("file");
    hosts_toml(
        &scratch,
        "registry.example",
        "server = \"https://a\"\n[host.\"https://b\"]\ncapabilities = [\"fly\"]",
    );
    wharf(&scratch, ["pull", "registry.example/a"]).fails_with(&[
        "hosts.toml",
        "\"fly\"",
        "docs/registries.md",
    ]);
    hosts_toml(&scratch, "registry.example", "server = ");
    wharf(&scratch, ["pull", "registry.example/a"]).fails_with(&["hosts.toml", "line 1"]);
    hosts_toml(&scratch, "registry.example", "server = \"https://a\"\ncapabilities = [\"push\"]");
    wharf(&scratch, ["pull", "registry.example/a"]).fails_with(&["no host this capability"]);
}
