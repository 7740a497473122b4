//! Debian's docker-registry: pull, push, indexes, run.
use crate::common::{self, Call, Scratch, image_archive, program_exists, require};
use crate::docker_registry::DockerRegistry;
use crate::images::{Made, architecture, foreign_architecture, index};
use crate::standin::{Content, StandIn};
use crate::{assert_sound, isolated, names, wharf};
use std::path::{Path, PathBuf};

/// Writes an OCI layout of one index.
pub(crate) fn layout_of(scratch: &Scratch, name: &str, index: &[u8], images: &[&Made]) -> PathBuf {
    let layout = scratch.path().join(name);
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("create");
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("write");
    let keep = |bytes: &[u8]| {
        let digest = crate::images::sha256(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).expect("write");
    };
    for image in images {
        keep(&image.manifest);
        image.blobs.iter().for_each(|(_, bytes)| keep(bytes));
    }
    keep(index);
    let mut entry = crate::images::descriptor(crate::images::INDEX, index);
    entry["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": "1"});
    let top = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(layout.join("index.json"), top.to_string()).expect("write");
    layout
}

fn blobs(root: &Path) -> Vec<String> {
    names(&root.join("images/blobs/sha256"))
}

#[test]
fn an_image_goes_to_a_registry_and_comes_back_the_same() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    let (there, here) = (Scratch::new("there"), Scratch::new("here"));
    let registry = DockerRegistry::start(&there);
    let name = format!("{}/team/shell", registry.host());
    there.load("shell");
    let pushed = wharf(&there, ["push", "shell", &format!("{name}:1")]).ok();
    let digest =
        there.wharf(["images", "--json"]).ok().json()[0]["digest"].as_str().expect("digest").to_owned();
    assert!(pushed.stdout.contains(&digest), "{pushed}");

    let by_tag = wharf(&here, ["pull", &format!("{name}:1")]).ok();
    assert!(by_tag.stdout.starts_with("pulled ") && by_tag.stdout.contains(&digest), "{by_tag}");
    assert_eq!(blobs(&here.root()), blobs(&there.root()));
    let again = wharf(&here, ["pull", &format!("{name}:1")]).ok();
    assert!(again.stdout.starts_with("up to date") && again.stderr.contains("is there already"), "{again}");
    for reference in
        [format!("{name}@{digest}"), format!("{name}:1@{digest}"), format!("{name}:gone@{digest}")]
    {
        let quiet = wharf(&here, ["pull", "--quiet", &reference]).ok();
        assert_eq!((quiet.text(), quiet.stderr.as_str()), (digest.as_str(), ""), "{reference}");
        let ran = wharf(
            &here,
            ["run", "--rm", "--pull", "never", "--network", "none", &reference, "echo", "hello"],
        );
        assert_eq!(ran.ok().text(), "hello");
    }
    assert_eq!(names(&here.root().join("images/.ingest")), [""; 0]);
    assert_sound(&here.root());

    let again = wharf(&there, ["push", &digest, &format!("{name}:2")]).ok();
    assert_eq!(again.stderr.matches("is there already").count(), 2, "{again}");
    wharf(&here, ["pull", &format!("{name}:3")]).fails_with(&["manifests/3", "404", "check name and tag"]);
    wharf(&here, ["pull", &format!("{name}@sha256:{}", "0".repeat(64))]).fails_with(&["404"]);
    let wrong = format!("{name}@sha256:{}", "0".repeat(64));
    wharf(&there, ["push", "shell", &wrong]).fails_with(&[&digest, "name a tag"]);
}

#[test]
fn a_blob_that_was_cut_short_is_fetched_again() {
    common::require_root!();
    let scratch = Scratch::new("cut");
    let image = Made::new(60, &[100_000]);
    let content = Content::of(&image);
    let server = StandIn::start(move |seen| content.answer(seen));
    let name = format!("{}/a:1", server.host());
    wharf(&scratch, ["pull", &name]).ok();
    let blob = scratch.root().join("images/blobs/sha256").join(&image.layer(0).0[7..]);
    let file = std::fs::File::options().write(true).open(blob).expect("the layer");
    file.set_len(1000).expect("cut");
    assert!(wharf(&scratch, ["pull", &name]).ok().stdout.starts_with("pulled"));
    assert_sound(&scratch.root());
}

#[test]
fn an_index_gives_each_platform_its_image() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("skopeo"), "needs skopeo");
    let scratch = Scratch::new("index");
    let registry = DockerRegistry::start(&scratch);
    let ours = Made::for_platform(1, &[1000, 70_000], architecture());
    let foreign = Made::for_platform(2, &[1000], foreign_architecture());
    let index = index(&[(&foreign, foreign_architecture()), (&ours, architecture())]);
    let index_digest = crate::images::sha256(&index);
    let layout = layout_of(&scratch, "layout", &index, &[&ours, &foreign]);
    let name = format!("{}/both", registry.host());
    skopeo(
        &scratch,
        &[
            "copy",
            "--all",
            "--preserve-digests",
            &format!("oci:{}:1", layout.display()),
            &format!("docker://{name}:1"),
        ],
    );

    let pulled = wharf(&scratch, ["pull", "--quiet", &format!("{name}:1")]).ok();
    assert_eq!(pulled.text(), index_digest);
    let listed = scratch.wharf(["images", "--json"]).ok().json();
    assert_eq!(listed[0]["digest"], ours.digest(), "{listed}");
    // The index's digest names the image that was chosen from it, at the registry and here.
    let by_index = format!("{name}@{index_digest}");
    let bundle = scratch.path().join("bundle");
    scratch.wharf(["unpack".as_ref(), by_index.as_ref(), bundle.as_os_str()]).ok();
    assert_eq!(std::fs::metadata(bundle.join("rootfs/file")).expect("file").len(), 70_000);

    let wanted = format!("linux/{}", foreign_architecture());
    wharf(&scratch, ["pull", "--platform", &wanted, &format!("{name}:1")]).ok();
    let listed = scratch.wharf(["images", "--json"]).ok().json();
    assert_eq!(
        (&listed[0]["digest"], &listed[0]["platform"]),
        (&foreign.digest().into(), &wanted.clone().into())
    );
    wharf(&scratch, ["run", "--rm", &format!("{name}:1")]).fails_with(&[&wanted, architecture()]);

    let error = wharf(&scratch, ["pull", "--platform", "linux/s390x", &format!("{name}:1")]);
    error.fails_with(&["linux/s390x", &wanted, &format!("linux/{}", architecture())]);
    wharf(&scratch, ["pull", "--platform", "s390x", &name]).fails_with(&["OS/ARCHITECTURE"]);
    assert_sound(&scratch.root());
}

pub(crate) fn skopeo(scratch: &Scratch, arguments: &[&str]) -> String {
    let (verb, rest) = arguments.split_first().expect("a verb");
    let plain: &[&str] = match *verb {
        "copy" => &["--src-tls-verify=false", "--dest-tls-verify=false"],
        _ => &["--tls-verify=false"],
    };
    let call = Call::new("skopeo").args(["--insecure-policy", verb]).args(plain).args(rest);
    isolated(scratch, call).ok().stdout
}

#[test]
fn skopeo_and_wharf_exchange_images_with_the_same_digests() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("skopeo"), "needs skopeo");
    let scratch = Scratch::new("skopeo");
    let registry = DockerRegistry::start(&scratch);
    let layout = scratch.path().join("shell");
    std::fs::create_dir(&layout).expect("create");
    Call::new("tar").arg("-xf").arg(image_archive("shell.tar")).arg("-C").arg(&layout).ok();
    let oci = format!("oci:{}:shell:latest", layout.display());
    for (form, media_type) in
        [("oci", "vnd.oci.image.manifest"), ("v2s2", "vnd.docker.distribution.manifest.v2")]
    {
        let theirs = format!("{}/theirs-{form}:1", registry.host());
        skopeo(&scratch, &["copy", "--format", form, &oci, &format!("docker://{theirs}")]);
        let inspect =
            skopeo(&scratch, &["inspect", "--format", "{{.Digest}}", &format!("docker://{theirs}")]);
        let pulled = wharf(&scratch, ["pull", "--quiet", &theirs]).ok();
        assert_eq!(pulled.text(), inspect.trim(), "{form}");
        let ran = wharf(&scratch, ["run", "--rm", "--network", "none", &theirs, "echo", form]).ok();
        assert_eq!(ran.text(), form);

        let ours = format!("{}/ours-{form}:1", registry.host());
        let pushed = wharf(&scratch, ["push", "--quiet", &theirs, &ours]).ok();
        assert_eq!(pushed.text(), inspect.trim(), "{form}");
        let copy = scratch.path().join(format!("copy-{form}"));
        skopeo(&scratch, &["copy", &format!("docker://{ours}"), &format!("dir:{}", copy.display())]);
        let manifest = std::fs::read(copy.join("manifest.json")).expect("manifest");
        assert_eq!(crate::images::sha256(&manifest), inspect.trim(), "{form}");
        assert!(String::from_utf8_lossy(&manifest).contains(media_type), "{form}");
    }
}

#[test]
fn blobs_that_another_repository_of_the_registry_has_are_not_sent_again() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    let scratch = Scratch::new("mount");
    let registry = DockerRegistry::start(&scratch);
    scratch.load("shell");
    let (one, two) = (format!("{}/one/shell:1", registry.host()), format!("{}/two/shell:1", registry.host()));
    wharf(&scratch, ["push", "shell", &one]).ok();
    wharf(&scratch, ["pull", &one]).ok();
    let pushed = wharf(&scratch, ["push", &one, &two]).ok();
    assert_eq!(pushed.stderr.matches("taken from one/shell").count(), 2, "{pushed}");
    let there = Scratch::new("there");
    wharf(&there, ["pull", &two]).ok();
}

#[test]
fn run_fetches_an_image_when_it_is_told_to() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    let scratch = Scratch::new("run");
    let registry = DockerRegistry::start(&scratch);
    let name = format!("{}/shell:1", registry.host());
    scratch.load("shell");
    wharf(&scratch, ["push", "shell", &name]).ok();
    let here = Scratch::new("here");
    let run = |pull: &[&str]| {
        let options = ["run", "--rm", "--network", "none"];
        wharf(&here, options.iter().chain(pull).copied().chain([name.as_str(), "echo", "hello"]))
    };
    run(&["--pull", "never"]).fails_with(&["no image", "wharf pull"]);
    let first = run(&[]).ok();
    assert_eq!(first.text(), "hello");
    assert!(first.stderr.contains("done"), "{first}");
    assert_eq!(run(&[]).ok().stderr, "");
    assert!(run(&["--pull", "always"]).ok().stderr.contains("is there already"));
    drop(registry);
    assert_eq!(run(&[]).ok().text(), "hello");
    run(&["--pull", "always", "--retry", "0"])
        .fails_with(&["Connection refused", &name.replace("/shell:1", "")]);
}

#[test]
fn progress_is_bars_on_a_terminal_and_objects_for_programs() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("script"), "needs script(1)");
    let scratch = Scratch::new("bars");
    let registry = DockerRegistry::start(&scratch);
    let name = format!("{}/shell:1", registry.host());
    scratch.load("shell");
    let pushed = wharf(&scratch, ["push", "--progress", "json", "shell", &name]).ok();
    let objects = |text: &str| -> Vec<serde_json::Value> {
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    };
    let pushed = objects(&pushed.stdout);
    assert_eq!(pushed.last().expect("a line")["event"], "pushed");
    assert_eq!(pushed.iter().filter(|object| object["state"] == "done").count(), 2, "{pushed:?}");

    let here = Scratch::new("here");
    let pulled = objects(&wharf(&here, ["pull", "--progress", "json", &name]).ok().stdout);
    assert_eq!(pulled[0]["event"], "resolved");
    let last = pulled.last().expect("a line");
    assert_eq!((&last["event"], &last["fetched"]), (&"pulled".into(), &true.into()));
    assert_eq!(last["digest"], pulled[0]["digest"]);

    let here = Scratch::new("terminal");
    let shown = wharf(&here, ["pull", &name]).in_terminal(24, 100).ok();
    assert!(shown.stdout.contains("[====") && shown.stdout.contains("done"), "{shown}");
}
