//! Several commands at one store.
use crate::common::{self, Running, Scratch};
use crate::images::Made;
use crate::standin::{Content, Reply, StandIn};
use crate::{assert_sound, names, wharf};
use std::time::Duration;

fn slow(content: Content) -> StandIn {
    StandIn::start(move |seen| {
        let drip = seen.target.contains("/blobs/").then_some((40_000, Duration::from_millis(40)));
        Reply { drip, ..content.answer(seen) }
    })
}

#[test]
fn two_pulls_of_one_image_fetch_each_blob_once() {
    common::require_root!();
    let scratch = Scratch::new("two");
    let image = Made::new(50, &[400_000, 300_000, 200_000]);
    let server = slow(Content::of(&image));
    let name = format!("{}/a:1", server.host());
    let running: Vec<Running> = (0..3).map(|_| wharf(&scratch, ["pull", &name]).spawn()).collect();
    for pull in running {
        let outcome = pull.wait();
        assert!(outcome.success(), "{outcome}");
    }
    for (digest, _) in &image.blobs {
        assert_eq!(server.seen_of("GET", digest).len(), 1, "{digest}");
    }
    assert_sound(&scratch.root());
    assert_eq!(scratch.wharf(["images", "--json"]).ok().json()[0]["digest"], image.digest());
}

#[test]
fn two_images_that_share_layers_in_another_order_do_not_wait_for_each_other() {
    common::require_root!();
    let scratch = Scratch::new("order");
    let one = Made::new(51, &[300_000, 310_000, 320_000, 330_000]);
    let two = one.clone().edited(|manifest| manifest["layers"].as_array_mut().expect("layers").reverse());
    let mut content = Content::of(&one);
    content.add(&two, "2");
    let server = slow(content);
    // The order of the second is not that of its config, so it cannot be unpacked.
    let pull =
        |tag: &str| wharf(&scratch, ["pull", "--no-unpack", &format!("{}/a:{tag}", server.host())]).spawn();
    let (one, two) = (pull("1"), pull("2"));
    for outcome in [one.wait(), two.wait()] {
        assert!(outcome.success(), "{outcome}");
    }
    assert_sound(&scratch.root());
}

#[test]
fn a_removal_beside_pulls_leaves_whole_images() {
    common::require_root!();
    let scratch = Scratch::new("rmi");
    let one = Made::new(52, &[60_000, 70_000]);
    // The second shares the layers of the first, so that removing one takes what the other found there.
    let two = one.clone().edited(|manifest| manifest["annotations"] = serde_json::json!({"a": "b"}));
    let mut content = Content::of(&one);
    content.add(&two, "2");
    let server = StandIn::start(move |seen| content.answer(seen));
    let name = |tag: &str| format!("{}/a:{tag}", server.host());
    for _ in 0..8 {
        wharf(&scratch, ["pull", &name("1")]).ok();
        let pull = wharf(&scratch, ["pull", &name("2")]).spawn();
        let remove = wharf(&scratch, ["rmi", &name("1")]).spawn();
        let (pulled, removed) = (pull.wait(), remove.wait());
        assert!(pulled.success(), "{pulled}");
        assert!(removed.success(), "{removed}");
        let listed = scratch.wharf(["images", "--json"]).ok().json();
        assert_eq!(listed.as_array().expect("a list").len(), 1, "{listed}");
        assert_eq!(names(&scratch.root().join("images/blobs/sha256")).len(), 4);
        assert_sound(&scratch.root());
        wharf(&scratch, ["rmi", &name("2")]).ok();
        assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    }
}
