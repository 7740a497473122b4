//! Images on their way in: what a killed load leaves, how much memory it takes, and what it tells meanwhile.

mod common;

use common::layer::{Entry, layer};
use common::layout::{Layout, digest};
use common::{Call, Scratch, require, tree};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that do not compress, different for each seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("compress");
    encoder.finish().expect("compress")
}

/// A layout of layers with directories, files, links and whiteouts.
fn image(scratch: &Scratch, layers: u64, files: u64) -> Layout {
    let mut layout = Layout::new(scratch.path().join("image"));
    for number in 0..layers {
        let mut entries = vec![Entry::directory(format!("d{number}"))];
        for file in 0..files {
            let content = noise(number * files + file, 700);
            entries.push(Entry::file(format!("d{number}/f{file}"), content));
        }
        entries.push(Entry::hard_link(format!("d{number}/link"), format!("d{number}/f0")));
        if number > 0 {
            entries.push(Entry::whiteout(&format!("d{}/f1", number - 1)));
        }
        let tar = layer(entries);
        layout.compressed(digest(&tar), gzip(&tar));
    }
    layout.write(|_| ());
    layout
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("list").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Whatever of the image has a name is complete.
fn check(scratch: &Scratch) {
    let report = scratch.wharf(["fsck", "--json"]).ok().json();
    assert_eq!(report["findings"], serde_json::json!([]), "{report}");
}

#[test]
fn a_load_that_is_killed_leaves_nothing_that_is_taken_for_complete() {
    common::require_root!();
    let scratch = Scratch::new("killed");
    let layout = image(&scratch, 4, 60);
    let load = || scratch.wharf(["load", "--quiet"]).arg(layout.path());
    let started = Instant::now();
    load().ok();
    let whole = started.elapsed();
    scratch.wharf(["unpack", "image"]).arg(scratch.path().join("expected")).ok();
    let (mut killed, mut complete, mut span, mut seed) = (0, 0, whole, 1_u32);
    while killed < 200 && complete < 800 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let running = load().spawn();
        std::thread::sleep(span.mul_f64(f64::from(seed) / f64::from(u32::MAX)));
        running.signal(nix::sys::signal::Signal::SIGKILL);
        if running.wait().success() {
            complete += 1;
            // Kept to the time that it takes, whatever else the machine does.
            span = span.mul_f64(0.9).max(Duration::from_millis(5));
            check(&scratch);
            scratch.wharf(["rmi", "image"]).ok();
        } else {
            killed += 1;
            span = span.mul_f64(1.02);
        }
        // Some begin with what several killed ones have left, some anew.
        if killed % 5 == 4 {
            check(&scratch);
            scratch.wharf(["prune"]).ok();
        }
    }
    assert_eq!(killed, 200, "{complete} were faster");
    load().ok();
    check(&scratch);
    scratch.wharf(["unpack", "image"]).arg(scratch.path().join("found")).ok();
    let [found, expected] = ["found", "expected"].map(|name| {
        let mut tree = tree(&scratch.path().join(name).join("rootfs"), 0, &[]);
        // No layer states the root.
        tree.remove("");
        tree
    });
    common::assert_same_tree(&found, &expected);
    scratch.wharf(["run", "--rm", "--pull", "never", "image", "/d0/f0"]).exits(126);
    let left: Vec<String> = [names(&scratch.root().join("images")), names(&scratch.root().join("layers"))]
        .concat()
        .into_iter()
        .filter(|name| name.starts_with('.') && ![".lock", ".ingest", ".provenance"].contains(&name.as_str()))
        .collect();
    assert_eq!(left, [""; 0]);
    scratch.assert_clean();
}

/// The most memory that a command was seen to have at once, KiB. Pages of its program file are not counted: a debug
/// build has many of them.
fn peak(call: Call) -> u64 {
    let running = call.spawn();
    let status = format!("/proc/{}/status", running.pid());
    let mut peak = 0;
    while let Ok(text) = std::fs::read_to_string(&status) {
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let Some(kib) = line.and_then(|line| line.split_whitespace().next()?.parse().ok()) else { break };
        peak = peak.max(kib);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(running.wait().success());
    peak
}

#[test]
fn memory_is_bounded_whatever_the_image() {
    common::require_root!();
    let scratch = Scratch::new("memory");
    let mut layout = Layout::new(scratch.path().join("image"));
    // Frames that want windows of 8 and of 32 MiB, several of each, and large files in gzip.
    for (number, window) in [(0, 23), (1, 25), (2, 23), (3, 25), (4, 0), (5, 0)] {
        let mut content = noise(number, 36 << 20);
        content.extend_from_within(..4 << 20);
        let tar = layer([Entry::file(format!("f{number}"), content)]);
        let blob = match window {
            0 => gzip(&tar),
            window => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("compress");
                encoder.window_log(window).expect("window");
                encoder.write_all(&tar).expect("compress");
                encoder.finish().expect("compress")
            }
        };
        layout.compressed(digest(&tar), blob);
    }
    layout.write(|_| ());
    let kib = peak(scratch.wharf(["load", "--quiet"]).arg(layout.path()));
    assert!(kib > 1024 && kib <= 64 << 10, "{kib} KiB");
    check(&scratch);
    scratch.assert_clean();
}

#[test]
fn a_window_that_nothing_allows_is_told() {
    common::require_root!();
    let scratch = Scratch::new("window");
    let mut layout = Layout::new(scratch.path().join("image"));
    let tar = layer([Entry::file("f", "text")]);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("compress");
    encoder.window_log(27).expect("window");
    encoder.write_all(&tar).expect("compress");
    layout.compressed(digest(&tar), encoder.finish().expect("compress"));
    layout.write(|_| ());
    scratch.wharf(["load", "--quiet"]).arg(layout.path()).fails_with(&["layer", "memory", "window"]);
    scratch.assert_clean();
}

#[test]
fn progress_is_told_in_lines_or_json_or_not_at_all() {
    common::require_root!();
    let scratch = Scratch::new("progress");
    let layout = image(&scratch, 2, 20);
    let quiet = scratch.wharf(["load", "--quiet"]).arg(layout.path()).ok();
    assert_eq!((quiet.stdout.lines().count(), quiet.stderr.as_str()), (1, ""), "{quiet}");
    scratch.wharf(["rmi", "image"]).ok();
    let lines = scratch.wharf(["load"]).arg(layout.path()).ok();
    assert_eq!(lines.stderr.matches(": unpacked").count(), 2, "{lines}");
    assert!(lines.stdout.starts_with("loaded image:latest (sha256:"), "{lines}");
    scratch.wharf(["rmi", "image"]).ok();
    let json = scratch.wharf(["load", "--progress", "json"]).arg(layout.path()).ok();
    let events: Vec<serde_json::Value> =
        json.stdout.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect();
    let unpacked = events.iter().filter(|event| event["state"] == "unpacked").count();
    assert_eq!(unpacked, 2, "{json}");
    assert_eq!(events.last().expect("events")["event"], "loaded");
    scratch.assert_clean();
}

#[test]
fn layers_are_unpacked_by_load_or_by_the_first_instance() {
    common::require_root!();
    let scratch = Scratch::new("lazy");
    let layers = scratch.root().join("layers/sha256");
    let archive = common::image_archive("shell.tar");
    scratch.wharf(["load", "--quiet", "--no-unpack"]).arg(&archive).ok();
    assert_eq!(names(&layers), [""; 0]);
    scratch.wharf(["run", "--rm", "shell", "true"]).ok();
    assert_eq!(names(&layers).len(), 1);
    scratch.wharf(["rmi", "shell"]).ok();
    assert_eq!(names(&layers), [""; 0]);
    scratch.wharf(["load", "--quiet"]).arg(&archive).ok();
    assert_eq!(names(&layers).len(), 1);
    scratch.assert_clean();
}

#[test]
fn several_loads_of_one_image_at_once_unpack_each_layer_once() {
    common::require_root!();
    let scratch = Scratch::new("together");
    let layout = image(&scratch, 3, 40);
    let running: Vec<_> =
        (0..4).map(|_| scratch.wharf(["load", "--quiet"]).arg(layout.path()).spawn()).collect();
    for load in running {
        assert!(load.wait().success());
    }
    assert_eq!(names(&scratch.root().join("layers/sha256")).len(), 3);
    check(&scratch);
    scratch.assert_clean();
}

#[test]
fn images_that_share_layers_in_another_order_do_not_wait_for_each_other() {
    common::require_root!();
    let scratch = Scratch::new("order");
    let layers: Vec<Vec<u8>> =
        (0..4).map(|number| layer([Entry::file(format!("f{number}"), noise(number, 400_000))])).collect();
    let layout = |name: &str, layers: &mut dyn Iterator<Item = &Vec<u8>>| {
        let mut layout = Layout::new(scratch.path().join(name));
        for tar in layers {
            layout.compressed(digest(tar), gzip(tar));
        }
        layout.write(|_| ());
        layout
    };
    let layouts = [layout("one", &mut layers.iter()), layout("two", &mut layers.iter().rev())];
    for _ in 0..5 {
        let running: Vec<_> = layouts
            .iter()
            .map(|layout| scratch.wharf(["load", "--quiet"]).arg(layout.path()).spawn())
            .collect();
        for load in running {
            assert!(load.wait().success());
        }
        check(&scratch);
        scratch.wharf(["rmi", "one", "two"]).ok();
    }
    scratch.assert_clean();
}

#[test]
fn an_archive_is_read_where_it_is_and_a_stream_from_its_start_to_its_end() {
    common::require_root!();
    require!(common::program_exists("tar"), "needs tar");
    let scratch = Scratch::new("forms");
    let layout = image(&scratch, 2, 10);
    let archive = scratch.path().join("image.tar");
    Call::new("tar").arg("-cf").arg(&archive).arg("-C").arg(layout.path()).arg(".").ok();
    let digest = scratch.wharf(["load", "--quiet"]).arg(&archive).ok().stdout;
    scratch.wharf(["rmi", "image"]).ok();
    let mut bytes = Vec::new();
    std::fs::File::open(&archive).and_then(|mut file| file.read_to_end(&mut bytes)).expect("read");
    let piped = scratch.wharf(["load", "--quiet", "--tag", "image"]).stdin(bytes).ok();
    assert_eq!(piped.stdout, digest);
    check(&scratch);
    scratch.assert_clean();
}
