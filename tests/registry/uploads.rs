//! Registries that want uploads in a way of their own.
use crate::common::{self, Scratch};
use crate::images::{Made, sha256};
use crate::standin::{Reply, Seen, StandIn};
use crate::{auths, docker_config, wharf};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Uploads by their place, complete blobs by digest, manifests by path.
#[derive(Debug, Default)]
struct Kept {
    uploads: HashMap<String, Vec<u8>>,
    blobs: HashMap<String, Vec<u8>>,
    manifests: HashMap<String, Vec<u8>>,
}

type Shared = Arc<Mutex<Kept>>;

/// The part of a registry behind an upload's place, as the specification has it.
fn upload(kept: &Shared, seen: &Seen) -> Reply {
    let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
    let mut kept = kept.lock().expect("lock");
    let upload = kept.uploads.entry(path.to_owned()).or_default();
    if let Some(range) = seen.header("content-range") {
        let expected = format!("{}-{}", upload.len(), upload.len() + seen.body.len() - 1);
        assert_eq!(range, expected, "chunks come in order");
    }
    upload.extend_from_slice(&seen.body);
    if seen.method == "PATCH" {
        return Reply::new(202, "").header("Location", path);
    }
    let bytes = std::mem::take(upload);
    let digest = query.split('&').find_map(|pair| pair.strip_prefix("digest=")).expect("digest");
    let digest = digest.replace("%3A", ":");
    if sha256(&bytes) != digest {
        return Reply::new(400, r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#);
    }
    kept.blobs.insert(digest, bytes);
    Reply::new(201, "")
}

fn registry(kept: &Shared, start: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> StandIn {
    let kept = kept.clone();
    StandIn::start(move |seen| {
        if seen.method == "POST" {
            start(seen)
        } else if seen.target.contains("/manifests/") {
            kept.lock().expect("lock").manifests.insert(seen.target.clone(), seen.body.clone());
            Reply::new(201, "").header("Docker-Content-Digest", sha256(&seen.body))
        } else if seen.method == "HEAD" {
            let name = seen.target.rsplit('/').next().unwrap_or_default();
            Reply::new(if kept.lock().expect("lock").blobs.contains_key(name) { 200 } else { 404 }, "")
        } else {
            upload(&kept, seen)
        }
    })
}

/// Loads an image made by the test.
fn load(scratch: &Scratch, image: &Made) {
    let index = crate::images::index(&[(image, crate::images::architecture())]);
    let layout = crate::plain::layout_of(scratch, "made", &index, &[image]);
    scratch.wharf(["load".as_ref(), "--tag".as_ref(), "made".as_ref(), layout.as_os_str()]).ok();
}

fn assert_complete(kept: &Shared, image: &Made) {
    let kept = kept.lock().expect("lock");
    for (digest, bytes) in &image.blobs {
        assert!(kept.blobs.get(digest) == Some(bytes), "{digest}");
    }
    assert_eq!(kept.manifests.values().next(), Some(&image.manifest));
}

#[test]
fn an_upload_goes_where_the_registry_says_without_telling_others_who_we_are() {
    common::require_root!();
    let image = Made::new(40, &[300_000]);
    let scratch = Scratch::new("where");
    load(&scratch, &image);
    // Relative to the request, absolute, and on another host.
    let kept = Shared::default();
    let elsewhere = {
        let kept = kept.clone();
        StandIn::start_at("127.0.0.2", move |seen| upload(&kept, seen))
    };
    let other = elsewhere.host();
    type Place = Box<dyn Fn(&Seen) -> String + Send + Sync>;
    let places: Vec<Place> = vec![
        Box::new(|_| "one?state=x".to_owned()),
        Box::new(|seen| format!("http://{}/v2/a/blobs/uploads/two", seen.header("host").unwrap_or_default())),
        Box::new(move |_| format!("http://{other}/three?state=y")),
    ];
    for (count, place) in places.into_iter().enumerate() {
        *kept.lock().expect("lock") = Kept::default();
        let server = registry(&kept, move |seen| match seen.header("authorization") {
            Some(_) => Reply::new(202, "").header("Location", place(seen)),
            None => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=x"),
        });
        docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
        // One after the other, since all have the same place here.
        wharf(&scratch, ["push", "--parallel", "1", "made", &format!("{}/a:1", server.host())]).ok();
        assert_complete(&kept, &image);
        let puts = if count == 2 { elsewhere.seen() } else { server.seen_of("PUT", ["one", "two"][count]) };
        assert_eq!(puts.len(), 2, "{count}");
        assert!(
            puts.iter().all(|seen| seen.header("authorization").is_some() == (count < 2)),
            "{count}: {puts:?}"
        );
    }
}

#[test]
fn a_registry_that_wants_chunks_gets_them() {
    common::require_root!();
    let image = Made::new(41, &[40 << 20]);
    let scratch = Scratch::new("chunks");
    load(&scratch, &image);
    let kept = Shared::default();
    let server = registry(&kept, |seen| {
        let place = format!("/v2/a/blobs/uploads/{}", seen.before);
        Reply::new(202, "").header("Location", place).header("OCI-Chunk-Min-Length", "17000000")
    });
    wharf(&scratch, ["push", "made", &format!("{}/a:1", server.host())]).ok();
    assert_complete(&kept, &image);
    let chunks: Vec<usize> =
        server.seen().iter().filter(|seen| seen.method == "PATCH").map(|seen| seen.body.len()).collect();
    assert!(chunks.contains(&17_000_000) && chunks.len() == 4, "{chunks:?}");

    // One that does not say so beforehand.
    let kept = Shared::default();
    let inner =
        registry(&kept, |seen| Reply::new(202, "").header("Location", format!("/up/{}", seen.before)));
    let forward = kept.clone();
    let server = StandIn::start(move |seen| match () {
        () if seen.method == "PUT" && seen.target.contains("/up/") && !seen.body.is_empty() => {
            Reply::new(405, "")
        }
        () if seen.method == "POST" => Reply::new(202, "").header("Location", format!("/up/{}", seen.before)),
        () if seen.target.contains("/up/") => upload(&forward, seen),
        () if seen.method == "HEAD" => Reply::new(404, ""),
        () => {
            forward.lock().expect("lock").manifests.insert(seen.target.clone(), seen.body.clone());
            Reply::new(201, "")
        }
    });
    drop(inner);
    wharf(&scratch, ["push", "made", &format!("{}/a:1", server.host())]).ok();
    assert_complete(&kept, &image);
}

#[test]
fn an_upload_that_fails_is_begun_again_and_errors_are_told() {
    common::require_root!();
    let image = Made::new(42, &[300_000]);
    let scratch = Scratch::new("again");
    load(&scratch, &image);
    let kept = Shared::default();
    let server = registry(&kept, |seen| match seen.before {
        0 => Reply::new(500, ""),
        1 => Reply::new(429, "").header("Retry-After", "1"),
        count => Reply::new(202, "").header("Location", format!("/up/{count}")),
    });
    wharf(&scratch, ["push", "made", &format!("{}/a:1", server.host())]).ok();
    assert_complete(&kept, &image);

    let denied = StandIn::start(|seen| match seen.method.as_str() {
        "HEAD" => Reply::new(404, ""),
        _ => Reply::new(403, r#"{"errors":[{"code":"DENIED","message":"quota is used up"}]}"#),
    });
    let push = wharf(&scratch, ["push", "made", &format!("{}/a:1", denied.host())]).outcome();
    assert_eq!(push.code, Some(125), "{push}");
    for words in ["start the upload of", "403", "DENIED", "quota is used up", "wharf login"] {
        assert!(push.stderr.contains(words), "{words}: {push}");
    }
    let lost = StandIn::start(|seen| Reply::new(if seen.method == "HEAD" { 404 } else { 202 }, ""));
    let push = wharf(&scratch, ["push", "made", &format!("{}/a:1", lost.host())]).outcome();
    assert!(push.code == Some(125) && push.stderr.contains("upload location is missing"), "{push}");
    wharf(&scratch, ["push", "sha256:0000", "127.0.0.1:1/a"]).fails_with(&["no image"]);
}
