//! Servers that want what is not theirs, or send what was not promised.
use crate::common::{self, Scratch};
use crate::images::{INDEX, MANIFEST, Made, architecture, index, sha256};
use crate::standin::{Content, Reply, Seen, StandIn, ranged};
use crate::{assert_sound, auths, docker_config, hosts_toml, names, wharf};
use serde_json::json;
use std::time::Duration;

const PASSWORD: &str = "Basic YW5uOnB3";

/// A registry with a password, ahead of what `other` answers.
fn guarded(other: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> StandIn {
    StandIn::start(move |seen| match seen.header("authorization") {
        Some(PASSWORD) => other(seen),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    })
}

fn is_blob(seen: &Seen, digest: &str) -> bool {
    seen.target.contains("/blobs/") && seen.target.contains(digest)
}

#[test]
fn a_redirect_to_another_host_takes_no_credential_along() {
    common::require_root!();
    let scratch = Scratch::new("redirect");
    let image = Made::new(10, &[5000, 6000]);
    let layers = [image.layer(0).clone(), image.layer(1).clone()];
    let content = Content::of(&image);
    let bytes = layers[0].1.clone();
    let store = StandIn::start_at("127.0.0.2", move |seen| ranged(seen, &bytes));
    let place = format!("http://{}/bucket?signature=S", store.host());
    let (first, second) = (layers[0].0.clone(), layers[1].0.clone());
    let server = guarded(move |seen| match () {
        () if is_blob(seen, &first) => Reply::redirect(&place),
        // A redirect within the same server keeps it.
        () if is_blob(seen, &second) && !seen.target.contains("again") => {
            Reply::redirect(&format!("/again{}", seen.target))
        }
        () => content.answer(seen),
    });
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    let host = server.host();
    hosts_toml(
        &scratch,
        &host,
        &format!("server = \"http://{host}\"\n[host.\"http://{host}\".header]\nX-Key = \"secret\""),
    );
    wharf(&scratch, ["pull", &format!("{host}/a:1")]).ok();
    assert!(server.seen().iter().all(|seen| seen.header("x-key") == Some("secret")));
    let seen = store.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].header("x-key").is_none(), "{seen:?}");
    assert_eq!(seen[0].target, "/bucket?signature=S");
    assert!(seen[0].header("authorization").is_none(), "{seen:?}");
    assert_sound(&scratch.root());
}

#[test]
fn a_redirect_there_and_back_does_not_wake_the_credential() {
    common::require_root!();
    let scratch = Scratch::new("back");
    let image = Made::new(11, &[5000]);
    let digest = image.layer(0).0.clone();
    let content = Content::of(&image);
    let server = guarded(move |seen| match seen.target.strip_prefix("/v2/a/blobs/") {
        Some(rest) if rest == digest => {
            let other = seen.header("host").expect("host").replace("127.0.0.1", "127.0.0.3");
            Reply::redirect(&format!("http://{other}/elsewhere"))
        }
        _ => content.answer(seen),
    });
    // The same port at another address of this machine: nobody listens there, so it is a server of its own.
    let port = server.address.port();
    let victim = server.host();
    let listener = std::net::TcpListener::bind(("127.0.0.3", port));
    common::require!(listener.is_ok(), "needs port {} at 127.0.0.3", port);
    drop(listener);
    let back = StandIn::start_at_port("127.0.0.3", port, move |_| {
        Reply::redirect(&format!("http://{victim}/v2/a/delete-me"))
    });
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    wharf(&scratch, ["pull", "--quiet", "--retry", "0", &format!("{}/a:1", server.host())])
        .fails_with(&["401"]);
    assert_eq!(back.seen().len(), 1);
    let led = server.seen_of("GET", "/delete-me");
    assert_eq!(led.len(), 1, "it is followed");
    assert!(led[0].header("authorization").is_none(), "{led:?}");
}

#[test]
fn redirects_end() {
    common::require_root!();
    let scratch = Scratch::new("circle");
    let server = StandIn::start(|seen| Reply::redirect(&seen.target));
    wharf(&scratch, ["pull", &format!("{}/a:1", server.host())])
        .fails_with(&["redirects without end", "refused"]);
    for (location, words) in
        [("ftp://127.0.0.1/x", "http or https"), ("http://u:p@127.0.0.1/", "user name"), ("", "")]
    {
        let server = StandIn::start(move |_| Reply::redirect(location));
        wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).fails_with(&["refused", words]);
    }
}

#[test]
fn cve_2020_15157_a_foreign_layer_url_sees_no_credential() {
    common::require_root!();
    let scratch = Scratch::new("foreign");
    let image = Made::new(12, &[5000]);
    let (digest, bytes) = image.layer(0).clone();
    let foreign = StandIn::start_at("127.0.0.2", move |seen| ranged(seen, &bytes));
    let url = format!("http://{}/layer", foreign.host());
    let image = image.edited(|manifest| {
        manifest["layers"][0]["mediaType"] = json!("application/vnd.oci.image.layer.nondistributable.v1.tar");
        manifest["layers"][0]["urls"] = json!([url]);
    });
    let content = Content::of(&image);
    let server =
        guarded(move |seen| if is_blob(seen, &digest) { Reply::new(404, "") } else { content.answer(seen) });
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    wharf(&scratch, ["pull", "--quiet", "--retry", "0", &format!("{}/a:1", server.host())]).ok();
    let seen = foreign.seen();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].header("authorization").is_none(), "{seen:?}");
    // A challenge from there is none of ours to answer.
    let scratch = Scratch::new("asks");
    let image = Made::new(13, &[5000]);
    let digest = image.layer(0).0.clone();
    let asks =
        StandIn::start_at("127.0.0.2", |_| Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"));
    let url = format!("http://{}/layer", asks.host());
    let image = image.edited(|manifest| manifest["layers"][0]["urls"] = json!([url]));
    let content = Content::of(&image);
    let server =
        guarded(move |seen| if is_blob(seen, &digest) { Reply::new(404, "") } else { content.answer(seen) });
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    wharf(&scratch, ["pull", "--quiet", "--retry", "0", &format!("{}/a:1", server.host())])
        .fails_with(&["401", "127.0.0.2"]);
    assert!(asks.seen().iter().all(|seen| seen.header("authorization").is_none()));
}

/// Pulls an image whose layer is answered as given; it must fail, and leave nothing that counts.
fn refused(
    layer: impl Fn(&Seen, &[u8]) -> Reply + Send + Sync + 'static,
    words: &[&str],
) -> (Scratch, StandIn) {
    let scratch = Scratch::new("refused");
    let image = Made::new(14, &[300_000]);
    let (digest, bytes) = image.layer(0).clone();
    let content = Content::of(&image);
    let server =
        StandIn::start(
            move |seen| {
                if is_blob(seen, &digest) { layer(seen, &bytes) } else { content.answer(seen) }
            },
        );
    let options = ["pull", "--retry", "1", "--registry-timeout", "2"];
    let outcome = wharf(&scratch, options.iter().copied().chain([format!("{}/a:1", server.host()).as_str()]));
    let outcome = outcome.outcome();
    assert_eq!(outcome.code, Some(125), "{outcome}");
    let last = outcome.stderr.trim_end().lines().last().unwrap_or_default();
    for word in words {
        assert!(last.contains(word), "{word:?} should be in the last line\n{outcome}");
    }
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), json!([]));
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    (scratch, server)
}

#[test]
fn bytes_that_were_not_promised_are_refused() {
    common::require_root!();
    let damaged = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes[1000] ^= 1;
        bytes
    };
    let (_scratch, server) =
        refused(move |_, bytes| Reply::new(200, damaged(bytes)), &["has digest sha256:", "refused"]);
    assert_eq!(
        server.seen().iter().filter(|seen| seen.target.contains("/blobs/")).count(),
        2,
        "no second try"
    );
    refused(|_, bytes| Reply::new(200, [bytes, b"x"].concat()), &["are announced where", "refused"]);
    refused(|_, bytes| Reply::new(200, &bytes[1..]), &["are announced where", "refused"]);
    refused(
        |_, bytes| Reply { unmeasured: true, ..Reply::new(200, [bytes, b"x"].concat()) },
        &["more than the", "refused"],
    );
    refused(|_, bytes| Reply { unmeasured: true, ..Reply::new(200, &bytes[1..]) }, &["it ends after"]);
    let begun = std::time::Instant::now();
    refused(
        |_, _| Reply { endless: true, ..Reply::new(200, vec![b'x'; 1000]) },
        &["more than the", "refused"],
    );
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_server_that_keeps_us_waiting_is_given_up() {
    common::require_root!();
    let drip = Some((1, Duration::from_millis(100)));
    refused(move |_, bytes| Reply { drip, ..Reply::new(200, bytes) }, &["too slowly"]);
    let silent = Some((1000, Duration::from_secs(10)));
    refused(move |_, bytes| Reply { drip: silent, ..Reply::new(200, bytes) }, &["stopped sending"]);
    let scratch = Scratch::new("slow");
    let server = StandIn::start(move |_| Reply { drip, ..Reply::new(200, vec![b' '; 3000]) });
    let name = format!("{}/a:1", server.host());
    let outcome = wharf(&scratch, ["pull", "--retry", "0", "--registry-timeout", "1", &name]).outcome();
    assert!(outcome.code == Some(125) && outcome.took < common_patience(20), "{outcome}");
}

fn common_patience(seconds: u64) -> Duration {
    let factor = std::env::var("WHARF_PATIENCE").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    Duration::from_secs(seconds) * factor
}

/// Pulls the document `bytes`, served as `media_type`.
fn document(
    bytes: Vec<u8>,
    media_type: &'static str,
    more: &'static [(&'static str, &'static str)],
    words: &[&str],
) {
    let scratch = Scratch::new("document");
    let server = StandIn::start(move |_| {
        let reply = Reply::new(200, bytes.clone()).header("Content-Type", media_type);
        more.iter().fold(reply, |reply, (name, value)| reply.header(name, *value))
    });
    wharf(&scratch, ["pull", "--quiet", "--retry", "0", &format!("{}/a:1", server.host())]).fails_with(words);
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
}

#[test]
fn cve_2021_41190_a_document_of_two_kinds_is_refused() {
    common::require_root!();
    let image = Made::new(15, &[1000]);
    let both = image.clone().edited(|manifest| manifest["manifests"] = json!([]));
    document(both.manifest.clone(), MANIFEST, &[], &["CVE-2021-41190"]);
    document(both.manifest, INDEX, &[], &["CVE-2021-41190"]);
    document(image.manifest, INDEX, &[], &["CVE-2021-41190"]);
    document(index(&[]), MANIFEST, &[], &["CVE-2021-41190"]);
}

#[test]
fn documents_that_mislead_are_refused() {
    common::require_root!();
    let image = Made::new(15, &[1000]);
    document(
        image.manifest.clone(),
        MANIFEST,
        &[("Docker-Content-Digest", "sha256:00")],
        &["was promised", "refused"],
    );
    document(b"{}".to_vec(), "application/vnd.docker.distribution.manifest.v1+prettyjws", &[], &["schema 1"]);
    document(b"<html>".to_vec(), "text/html", &[], &["is not JSON"]);
    document(vec![b' '; (4 << 20) + 1], MANIFEST, &[], &["longer than", "4194304"]);
    let path = image
        .clone()
        .edited(|manifest| manifest["layers"][0]["digest"] = json!("sha256:../../../etc/passwd"));
    document(path.manifest, MANIFEST, &[], &["../../../etc/passwd"]);
    let large = image.clone().edited(|manifest| manifest["layers"][0]["size"] = json!(1_u64 << 62));
    let scratch = Scratch::new("large");
    let content = Content::of(&large);
    let server = StandIn::start(move |seen| content.answer(seen));
    wharf(&scratch, ["pull", "--quiet", &format!("{}/a:1", server.host())])
        .fails_with(&["is said to have", "refused"]);
    let many = image.edited(|manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = json!(vec![layer; 501]);
    });
    document(many.manifest, MANIFEST, &[], &["501 layers"]);
    let entry = Made::new(16, &[]);
    let entries = vec![(&entry, architecture()); 5000];
    document(index(&entries), INDEX, &[], &["4096 entries"]);
}

#[test]
fn indexes_that_never_end_and_children_of_another_size_are_refused() {
    common::require_root!();
    let scratch = Scratch::new("deep");
    let mut content = Content::default();
    let image = Made::new(17, &[1000]);
    let mut document = index(&[(&image, architecture())]);
    for _ in 0..6 {
        let below = Made { manifest: document.clone(), blobs: Vec::new() };
        content.add_document(&document, &sha256(&document));
        document = index(&[(&below, architecture())]);
    }
    content.add_document(&document, "1");
    let mut long = index(&[(&image, architecture())]);
    let text = String::from_utf8(long).expect("UTF-8");
    let size = format!("\"size\":{}", image.manifest.len());
    long = text.replace(&size, &format!("\"size\":{}", image.manifest.len() - 1)).into_bytes();
    content.add(&image, "good");
    content.add_document(&long, "2");
    let server = StandIn::start(move |seen| content.answer(seen));
    wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).fails_with(&["without end"]);
    wharf(&scratch, ["pull", &format!("{}/a:2", server.host())]).fails_with(&["longer than", "refused"]);
}

#[test]
fn an_image_for_other_machines_is_refused_before_its_layers_come() {
    common::require_root!();
    let scratch = Scratch::new("other");
    let image = Made::for_platform(18, &[1000], "s390x");
    let content = Content::of(&image);
    let server = StandIn::start(move |seen| content.answer(seen));
    wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).outcome();
    let outcome = wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).outcome();
    assert!(outcome.code == Some(125) && outcome.stderr.contains("linux/s390x"), "{outcome}");
    assert!(server.seen().iter().all(|seen| !is_blob(seen, &image.layer(0).0)));
}
