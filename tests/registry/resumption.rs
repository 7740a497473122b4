//! Downloads that break off, and servers that are busy.
use crate::common::{self, Call, Scratch, eventually};
use crate::images::Made;
use crate::standin::{Content, Reply, Seen, StandIn, ranged};
use crate::{assert_sound, isolated, names, wharf};
use std::time::Duration;

/// Serves an image whose only layer is answered by `layer`.
fn serve(image: &Made, layer: impl Fn(&Seen, &[u8]) -> Reply + Send + Sync + 'static) -> StandIn {
    let (digest, bytes) = image.layer(0).clone();
    let content = Content::of(image);
    StandIn::start(move |seen| match seen.target.ends_with(&digest) {
        true => layer(seen, &bytes),
        false => content.answer(seen),
    })
}

fn ranges(server: &StandIn, image: &Made) -> Vec<String> {
    let asked = server.seen_of("GET", &image.layer(0).0);
    asked.iter().map(|seen| seen.header("range").unwrap_or("all").to_owned()).collect()
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was() {
    common::require_root!();
    let scratch = Scratch::new("broken");
    let image = Made::new(20, &[3_000_000]);
    let server = serve(&image, |seen, bytes| {
        let broken_after = (seen.before < 3).then_some(700_000);
        Reply { broken_after, ..ranged(seen, bytes) }
    });
    let pulled = wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).ok();
    assert!(pulled.stderr.contains("trying again"), "{pulled}");
    assert_eq!(ranges(&server, &image), ["all", "bytes=700000-", "bytes=1400000-", "bytes=2100000-"]);
    assert_sound(&scratch.root());
}

#[test]
fn a_server_that_knows_no_ranges_or_sends_wrong_ones_does_no_harm() {
    common::require_root!();
    let image = Made::new(21, &[500_000]);
    let scratch = Scratch::new("ranges");
    let all = serve(&image, |seen, bytes| {
        let broken_after = (seen.before == 0).then_some(200_000);
        Reply { broken_after, ..Reply::new(200, bytes) }
    });
    wharf(&scratch, ["pull", &format!("{}/a:1", all.host())]).ok();
    assert_eq!(ranges(&all, &image), ["all", "bytes=200000-"]);
    assert_sound(&scratch.root());

    let scratch = Scratch::new("wrong");
    let wrong = serve(&image, |seen, bytes| match seen.before {
        0 => Reply { broken_after: Some(200_000), ..Reply::new(200, bytes) },
        _ => {
            let range = format!("bytes 100000-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206, &bytes[100_000..]).header("Content-Range", range)
        }
    });
    let outcome = wharf(&scratch, ["pull", &format!("{}/a:1", wrong.host())]).outcome();
    assert!(outcome.code == Some(125) && outcome.stderr.contains("bytes 100000-"), "{outcome}");

    // What another server left is thrown away when it does not fit.
    let scratch = Scratch::new("mixed");
    let damaged = serve(&image, |seen, bytes| {
        let mut bytes = bytes.to_vec();
        if seen.before == 0 {
            bytes[5] ^= 1;
        }
        Reply { broken_after: (seen.before == 0).then_some(200_000), ..ranged(seen, &bytes) }
    });
    let name = format!("{}/a:1", damaged.host());
    wharf(&scratch, ["pull", "--retry", "0", &name]).outcome();
    wharf(&scratch, ["pull", "--retry", "0", &name]).ok();
    assert_eq!(ranges(&damaged, &image), ["all", "bytes=200000-", "all"]);
    assert_sound(&scratch.root());
}

#[test]
fn a_killed_pull_is_gone_on_with_by_the_next_one() {
    common::require_root!();
    let scratch = Scratch::new("killed");
    let image = Made::new(22, &[1_000_000]);
    let server = serve(&image, |seen, bytes| {
        let drip = (seen.before == 0).then_some((100_000, Duration::from_millis(400)));
        Reply { drip, ..ranged(seen, bytes) }
    });
    let name = format!("{}/a:1", server.host());
    let running = wharf(&scratch, ["pull", &name]).spawn();
    let ingest = scratch.root().join("images/.ingest");
    let partial = || names(&ingest).into_iter().find(|name| name.ends_with(".partial"));
    let length = || partial().and_then(|name| ingest.join(name).metadata().ok()).map_or(0, |data| data.len());
    eventually("a part has come", || length() >= 200_000);
    running.signal(nix::sys::signal::Signal::SIGKILL);
    assert_eq!(running.wait().signal, Some(9));
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    let there = length();
    wharf(&scratch, ["pull", &name]).ok();
    assert_eq!(ranges(&server, &image), ["all".to_owned(), format!("bytes={there}-")]);
    assert_eq!(names(&ingest), [""; 0]);
    assert_sound(&scratch.root());
}

#[test]
fn pulls_killed_at_any_moment_leave_nothing_that_is_taken_for_whole() {
    common::require_root!();
    let scratch = Scratch::new("any");
    let image = Made::new(26, &[150_000, 250_000, 50_000]);
    let content = Content::of(&image);
    let server = StandIn::start(move |seen| Reply {
        drip: Some((30_000, Duration::from_millis(8))),
        ..content.answer(seen)
    });
    let name = format!("{}/a:1", server.host());
    for round in 0..20 {
        let running = wharf(&scratch, ["pull", &name]).spawn();
        std::thread::sleep(Duration::from_millis(20 + round * 13 % 260));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        running.wait();
        assert_sound(&scratch.root());
        let listed = scratch.wharf(["images", "--json"]).ok().json();
        for image in listed.as_array().expect("a list") {
            let bundle = scratch.path().join(format!("bundle{round}"));
            let reference = image["reference"].as_str().expect("a name");
            scratch.wharf(["unpack".as_ref(), reference.as_ref(), bundle.as_os_str()]).ok();
        }
    }
    wharf(&scratch, ["pull", &name]).ok();
    assert_sound(&scratch.root());
    assert_eq!(names(&scratch.root().join("images/.ingest")), [""; 0]);
}

#[test]
fn a_blob_that_is_there_does_not_excuse_a_wrong_size() {
    common::require_root!();
    let scratch = Scratch::new("size");
    let image = Made::new(28, &[5000, 6000]);
    let lying =
        image.clone().edited(|manifest| manifest["layers"][0]["size"] = serde_json::json!(1_000_000_000));
    let missing = image.layer(1).0.clone();
    let mut content = Content::of(&image);
    content.add(&lying, "2");
    let server = StandIn::start(move |seen| match seen.target.ends_with(&missing) {
        true => Reply::new(404, ""),
        false => content.answer(seen),
    });
    let pull = |tag: &str| {
        wharf(&scratch, ["pull", "--quiet", "--parallel", "1", &format!("{}/a:{tag}", server.host())])
    };
    // The first layer has come, and waits for the second.
    pull("1").fails_with(&["404"]);
    pull("2").fails_with(&["1000000000", "promised"]);
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json(), serde_json::json!([]));
}

/// A small tmpfs, unmounted in the end.
struct SmallDisk(std::path::PathBuf);

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Call::new("umount").arg(&self.0).outcome();
    }
}

#[test]
fn an_image_that_does_not_fit_is_told_before_it_comes() {
    common::require_root!();
    let scratch = Scratch::new("room");
    let image = Made::new(27, &[3_000_000]);
    let server = serve(&image, ranged);
    let disk = SmallDisk(scratch.path().join("disk"));
    std::fs::create_dir(&disk.0).expect("create");
    Call::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&disk.0).ok();
    let call = Call::new(env!("CARGO_BIN_EXE_wharf")).arg("--root").arg(&disk.0);
    let pull = isolated(&scratch, call.args(["pull", "--quiet", &format!("{}/a:1", server.host())]));
    pull.fails_with(&["has room for", "--root"]);
    assert_eq!(ranges(&server, &image), [""; 0]);
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    common::require_root!();
    let scratch = Scratch::new("busy");
    let image = Made::new(23, &[1000]);
    let content = Content::of(&image);
    let server = StandIn::start(move |seen| match (seen.target.contains("/manifests/"), seen.before) {
        (true, 0) => Reply::new(429, r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#).header("Retry-After", "2"),
        (true, 1) => Reply::new(503, ""),
        (false, 0) if seen.target.contains("/blobs/") => Reply::new(500, ""),
        _ => content.answer(seen),
    });
    let pulled = wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).ok();
    assert!(pulled.took >= Duration::from_secs(2), "{pulled}");
    assert_eq!(server.seen_of("GET", "/manifests/1").len(), 3);

    let busy = StandIn::start(|_| Reply::new(429, "").header("Retry-After", "86400"));
    let pull = wharf(&scratch, ["pull", &format!("{}/a:1", busy.host())]);
    let outcome = pull.fails_with(&["asks to wait 86400 s"]);
    assert!(outcome.took < Duration::from_secs(30), "{outcome}");
}

#[test]
fn trying_again_ends() {
    common::require_root!();
    let scratch = Scratch::new("ends");
    let server = StandIn::start(|_| Reply::new(502, ""));
    let name = format!("{}/a:1", server.host());
    wharf(&scratch, ["pull", "--retry", "2", &name]).fails_with(&["502", "out of order"]);
    assert_eq!(server.seen_of("GET", "/manifests/1").len(), 3);
    // A connection that always breaks after the same bytes makes no progress.
    let image = Made::new(24, &[3_000_000]);
    let broken = serve(&image, |_, bytes| Reply { broken_after: Some(2_000_000), ..Reply::new(200, bytes) });
    let outcome = wharf(&scratch, ["pull", "--retry", "2", &format!("{}/a:1", broken.host())]).outcome();
    assert_eq!(outcome.code, Some(125), "{outcome}");
    assert!(ranges(&broken, &image).len() <= 5, "{:?}", ranges(&broken, &image));
    let error = wharf(&scratch, ["pull", "--retry", "0", "127.0.0.1:1/a:1"]);
    error.fails_with(&["get https://127.0.0.1:1/v2/a/manifests/1", "Connection refused"]);
}

#[test]
fn layers_come_several_at_once_and_no_more_than_asked_for() {
    common::require_root!();
    let image = Made::new(25, &[50_000; 8]);
    for (option, least, most) in [(None, 2, 3), (Some("1"), 1, 1), (Some("6"), 3, 6)] {
        let scratch = Scratch::new("several");
        let content = Content::of(&image);
        let server = StandIn::start(move |seen| Reply {
            drip: Some((10_000, Duration::from_millis(60))),
            ..content.answer(seen)
        });
        let name = format!("{}/a:1", server.host());
        let options: Vec<&str> = option.iter().flat_map(|count| ["--parallel", count]).collect();
        wharf(&scratch, ["pull"].into_iter().chain(options).chain([name.as_str()])).ok();
        let at_once = server.most_at_once();
        assert!((least..=most).contains(&at_once), "{option:?}: {at_once}");
    }
}
