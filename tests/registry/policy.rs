//! Signatures of cosign's kind, made by openssl and kept in Debian's docker-registry beside the image.
#![allow(clippy::unwrap_used)]
use crate::common::{self, Call, Scratch, program_exists, require};
use crate::docker_registry::DockerRegistry;
use crate::images::{MANIFEST, Made, architecture, descriptor, index, sha256};
use crate::{names, wharf};
use base64::Engine as _;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A private key in a file, and its public one beside it.
struct Signer(PathBuf);

impl Signer {
    fn new(scratch: &Scratch, name: &str, kind: &[&str]) -> Self {
        let key = scratch.path().join(name);
        Call::new("openssl").args(["genpkey", "-quiet", "-out"]).arg(&key).args(kind).ok();
        Call::new("openssl").args(["pkey", "-pubout", "-in"]).arg(&key).arg("-out").arg(public(&key)).ok();
        Self(key)
    }
    fn p256(scratch: &Scratch, name: &str) -> Self {
        Self::new(scratch, name, &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])
    }
    fn public(&self) -> PathBuf {
        public(&self.0)
    }
    /// The signature, in base64.
    fn sign(&self, payload: &[u8]) -> String {
        let (from, to) = (self.0.with_extension("payload"), self.0.with_extension("signature"));
        std::fs::write(&from, payload).unwrap();
        let is_ed25519 = self.0.ends_with("ed25519");
        let call = Call::new("openssl");
        let call = match is_ed25519 {
            true => call
                .args(["pkeyutl", "-sign", "-rawin", "-inkey"])
                .arg(&self.0)
                .arg("-out")
                .arg(&to)
                .arg("-in"),
            false => call.args(["dgst", "-sha256", "-sign"]).arg(&self.0).arg("-out").arg(&to),
        };
        call.arg(&from).ok();
        base64::engine::general_purpose::STANDARD.encode(std::fs::read(to).unwrap())
    }
    /// A payload with its signature.
    fn signed(&self, payload: &Value) -> (Vec<u8>, String) {
        let bytes = payload.to_string().into_bytes();
        let signature = self.sign(&bytes);
        (bytes, signature)
    }
}

fn public(key: &Path) -> PathBuf {
    key.with_extension("pub")
}

fn payload(reference: &str, digest: &str) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": reference}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature",
        },
        "optional": {"creator": "a test"},
    })
}

/// One request; its status and its Location.
fn request(host: &str, method: &str, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(host).unwrap();
    let head = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let location = answer.lines().find_map(|line| line.strip_prefix("Location: ")).unwrap_or_default();
    (status, location.trim().to_owned())
}

/// A repository of a registry.
struct Repository<'a> {
    registry: &'a DockerRegistry,
    name: &'a str,
}

impl Repository<'_> {
    fn blob(&self, bytes: &[u8]) {
        let host = self.registry.host();
        let (_, location) = request(&host, "POST", &format!("/v2/{}/blobs/uploads/", self.name), "", b"");
        let target = location.strip_prefix(&format!("http://{host}")).unwrap_or(&location);
        let target = format!("{target}&digest={}", sha256(bytes));
        assert_eq!(request(&host, "PUT", &target, "application/octet-stream", bytes).0, 201);
    }
    fn manifest(&self, tag: &str, kind: &str, bytes: &[u8]) {
        let target = format!("/v2/{}/manifests/{tag}", self.name);
        assert_eq!(request(&self.registry.host(), "PUT", &target, kind, bytes).0, 201);
    }
    fn image(&self, tag: &str, image: &Made) {
        image.blobs.iter().for_each(|(_, bytes)| self.blob(bytes));
        self.manifest(tag, MANIFEST, &image.manifest);
    }
    /// Puts signatures where cosign puts them.
    fn signatures(&self, digest: &str, signatures: &[(Vec<u8>, String)]) {
        let config = b"{}";
        self.blob(config);
        let layer = |(payload, signature): &(Vec<u8>, String)| {
            self.blob(payload);
            let mut layer = descriptor(SIMPLE_SIGNING, payload);
            layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            layer
        };
        let layers: Vec<Value> = signatures.iter().map(layer).collect();
        let config = descriptor("application/vnd.oci.image.config.v1+json", config);
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.manifest(
            &format!("{}.sig", digest.replace(':', "-")),
            MANIFEST,
            manifest.to_string().as_bytes(),
        );
    }
    fn reference(&self, tag: &str) -> String {
        format!("{}/{}:{tag}", self.registry.host(), self.name)
    }
    /// The name that cosign signs.
    fn full(&self) -> String {
        format!("{}/{}", self.registry.host(), self.name)
    }
}

/// A policy that asks images of this registry for a signature by one of the keys, and takes no others.
fn policy(scratch: &Scratch, registry: &DockerRegistry, keys: &[&Signer]) -> PathBuf {
    policy_for(scratch, "policy.json", &registry.host(), keys)
}

fn policy_for(scratch: &Scratch, file: &str, scope: &str, keys: &[&Signer]) -> PathBuf {
    let keys: Vec<PathBuf> = keys.iter().map(|signer| signer.public()).collect();
    let signed =
        json!({"type": "sigstoreSigned", "keyPaths": keys, "signedIdentity": {"type": "matchRepository"}});
    let document = json!({
        "default": [{"type": "reject"}], "transports": {"docker": {scope: [signed]}},
    });
    let path = scratch.path().join(file);
    std::fs::write(&path, document.to_string()).unwrap();
    path
}

fn pull(scratch: &Scratch, policy: &Path, reference: &str) -> Call {
    wharf(scratch, ["pull", "--policy", policy.to_str().unwrap(), reference])
}

/// Nothing of an image came in.
#[track_caller]
fn assert_empty(scratch: &Scratch) {
    assert_eq!(names(&scratch.root().join("images/blobs/sha256")), [""; 0]);
    assert_eq!(names(&scratch.root().join("images/.ingest")), [""; 0]);
    assert_eq!(wharf(scratch, ["images", "--json"]).ok().json(), json!([]));
}

macro_rules! require_tools {
    () => {
        common::require_root!();
        require!(program_exists("docker-registry"), "needs docker-registry");
        require!(program_exists("openssl"), "needs openssl");
    };
}

#[test]
fn an_image_that_one_of_the_keys_signed_comes_in_whatever_kind_of_key_it_is() {
    require_tools!();
    let there = Scratch::new("keys");
    let registry = DockerRegistry::start(&there);
    let kinds: [(&str, &[&str]); 4] = [
        ("p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]),
        ("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]),
        ("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]),
        ("ed25519", &["-algorithm", "ED25519"]),
    ];
    let other = Signer::p256(&there, "other");
    for (number, (name, kind)) in kinds.into_iter().enumerate() {
        let signer = Signer::new(&there, name, kind);
        let image = Made::new(70 + number as u64, &[1000]);
        let repository = Repository { registry: &registry, name };
        repository.image("1", &image);
        repository
            .signatures(&image.digest(), &[signer.signed(&payload(&repository.full(), &image.digest()))]);
        let here = Scratch::new("here");
        let accepting = policy(&here, &registry, &[&other, &signer]);
        let pulled = pull(&here, &accepting, &repository.reference("1")).ok();
        assert!(pulled.stdout.contains(&image.digest()), "{name}: {pulled}");
        let by_digest = format!("{}@{}", repository.full(), image.digest());
        pull(&here, &accepting, &by_digest).ok();
    }
}

#[test]
fn an_image_without_a_signature_that_counts_leaves_nothing_behind() {
    require_tools!();
    let scratch = Scratch::new("bad");
    let registry = DockerRegistry::start(&scratch);
    let (signer, stranger) = (Signer::p256(&scratch, "signer"), Signer::p256(&scratch, "stranger"));
    let accepting = policy(&scratch, &registry, &[&signer]);
    let image = Made::new(80, &[1000]);
    let digest = image.digest();
    let full = |name: &str| format!("{}/{name}", registry.host());
    let forged = |text: &str, by: &str| {
        let good = signer.signed(&payload(&full(text), &digest));
        let text = String::from_utf8(good.0).unwrap().replace(by, &format!("{by} "));
        (text.into_bytes(), good.1)
    };
    let mut other_kind = payload(&full("kind"), &digest);
    other_kind["critical"]["type"] = json!("something else");
    let mut unknown_field = payload(&full("field"), &digest);
    unknown_field["critical"]["also"] = json!(1);
    let elsewhere = format!("sha256:{}", "0".repeat(64));
    let cases = [
        ("missing", Vec::new(), "there is none"),
        ("stranger", vec![stranger.signed(&payload(&full("stranger"), &digest))], "none of the keys"),
        ("another", vec![signer.signed(&payload(&full("another"), &elsewhere))], "another image"),
        ("repository", vec![signer.signed(&payload(&full("trusted"), &digest))], "trusted"),
        ("tampered", vec![forged("tampered", "a test")], "none of the keys"),
        ("kind", vec![signer.signed(&other_kind)], "something else"),
        ("field", vec![signer.signed(&unknown_field)], "also"),
        ("noise", vec![(b"noise".to_vec(), "bm9pc2U=".to_owned())], "none of the keys"),
        ("nobase", vec![(b"x".to_vec(), "?".to_owned())], "base64"),
    ];
    for (name, signatures, reason) in cases {
        let repository = Repository { registry: &registry, name };
        repository.image("1", &image);
        if name != "missing" {
            repository.signatures(&digest, &signatures);
        }
        let here = Scratch::new("here");
        let outcome =
            pull(&here, &accepting, &repository.reference("1")).fails_with(&[name, "policy.json", reason]);
        assert_eq!(outcome.code, Some(125), "{outcome}");
        assert_empty(&here);
    }
}

#[test]
fn one_signature_that_counts_among_many_is_enough() {
    require_tools!();
    let here = Scratch::new("many");
    let registry = DockerRegistry::start(&here);
    let (signer, stranger) = (Signer::p256(&here, "signer"), Signer::p256(&here, "stranger"));
    let image = Made::new(90, &[1000]);
    let repository = Repository { registry: &registry, name: "team/many" };
    repository.image("1", &image);
    let good = payload(&repository.full(), &image.digest());
    let other = payload("elsewhere.example/x", &image.digest());
    repository
        .signatures(&image.digest(), &[stranger.signed(&good), signer.signed(&other), signer.signed(&good)]);
    pull(&here, &policy(&here, &registry, &[&signer]), &repository.reference("1")).ok();
}

#[test]
fn a_signature_of_the_index_or_of_the_image_in_it_counts() {
    require_tools!();
    let there = Scratch::new("index");
    let registry = DockerRegistry::start(&there);
    let signer = Signer::p256(&there, "signer");
    for signed in ["index", "image", "neither"] {
        let image = Made::new(95, &[1000]);
        let index = index(&[(&image, architecture())]);
        let repository = Repository { registry: &registry, name: signed };
        repository.image("only", &image);
        repository.manifest("1", crate::images::INDEX, &index);
        let digest = if signed == "index" { sha256(&index) } else { image.digest() };
        if signed != "neither" {
            repository.signatures(&digest, &[signer.signed(&payload(&repository.full(), &digest))]);
        }
        let here = Scratch::new("here");
        let accepting = policy(&here, &registry, &[&signer]);
        let outcome = pull(&here, &accepting, &repository.reference("1")).outcome();
        assert_eq!(outcome.success(), signed != "neither", "{outcome}");
        if signed != "neither" {
            // The policy lets it run; what it holds is no program.
            let options = ["run", "--rm", "--network", "none", "--pull", "never", "--policy"];
            wharf(&here, options).arg(&accepting).arg(repository.reference("1")).exits(126);
        }
    }
}

#[test]
fn what_was_pulled_is_judged_again_when_it_runs_without_its_registry() {
    require_tools!();
    let here = Scratch::new("again");
    let registry = DockerRegistry::start(&here);
    let (signer, stranger) = (Signer::p256(&here, "signer"), Signer::p256(&here, "stranger"));
    here.load("shell");
    let reference = format!("{}/shell:1", registry.host());
    wharf(&here, ["push", "shell", &reference]).ok();
    let digest = wharf(&here, ["images", "--json"]).ok().json()[0]["digest"].as_str().unwrap().to_owned();
    let repository = Repository { registry: &registry, name: "shell" };
    let run = |policy: &Path| {
        let options =
            ["run", "--rm", "--network", "none", "--pull", "never", "--policy", policy.to_str().unwrap()];
        wharf(&here, options).args([&reference, "echo", "works"])
    };
    // It came in while nothing was asked for.
    wharf(&here, ["pull", &reference]).ok();
    let accepting = policy(&here, &registry, &[&signer]);
    run(&accepting).fails_with(&["shell:1", "there is none"]);
    repository.signatures(&digest, &[signer.signed(&payload(&repository.full(), &digest))]);
    pull(&here, &accepting, &reference).ok();
    // Neither a pull under no policy nor the end of the registry takes the signature away.
    wharf(&here, ["pull", &reference]).ok();
    let host = registry.host();
    let other = policy_for(&here, "other.json", &host, &[&stranger]);
    drop(registry);
    assert_eq!(run(&accepting).ok().text(), "works");
    run(&other).fails_with(&[&host, "none of the keys"]);
    std::fs::write(&other, r#"{"default":[{"type":"reject"}]}"#).unwrap();
    run(&other).fails_with(&["default", "rejects"]);
    assert_eq!(wharf(&here, ["ps", "-a", "--json"]).ok().json(), json!([]));
}

/// cosign itself, where there is one.
fn cosign(scratch: &Scratch) -> Option<Call> {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/cosign");
    let program = if program_exists("cosign") { PathBuf::from("cosign") } else { fetched };
    let there = program_exists("cosign") || program.exists();
    let call = || Call::new(&program).env("HOME", scratch.path()).env("COSIGN_PASSWORD", "secret");
    there.then(|| call().current_dir(scratch.path()))
}

#[test]
fn what_cosign_signs_comes_in_and_what_it_did_not_sign_stays_out() {
    require_tools!();
    let there = Scratch::new("cosign");
    let Some(generate) = cosign(&there) else {
        common::skip("needs cosign (scripts/bench.d/debian13 target/peers cosign usr/bin/cosign)");
        return;
    };
    let registry = DockerRegistry::start(&there);
    generate.arg("generate-key-pair").ok();
    let image = Made::new(98, &[1000]);
    let index = index(&[(&image, architecture())]);
    let signer = Signer(there.path().join("cosign.key"));
    for (name, digest) in [("image", image.digest()), ("index", sha256(&index)), ("unsigned", String::new())]
    {
        let repository = Repository { registry: &registry, name };
        repository.image("only", &image);
        repository.manifest("1", crate::images::INDEX, &index);
        if name != "unsigned" {
            let call = cosign(&there).expect("it was there before");
            let call = call.args(["sign", "--yes", "--tlog-upload=false", "--key", "cosign.key"]);
            call.arg(format!("{}@{digest}", repository.full())).ok();
        }
        let here = Scratch::new("here");
        let call = pull(&here, &policy(&here, &registry, &[&signer]), &repository.reference("1"));
        if name == "unsigned" {
            call.fails_with(&["there is none"])
        } else {
            call.ok()
        };
    }
}

#[test]
fn run_pulls_under_the_policy_too() {
    require_tools!();
    let (here, there) = (Scratch::new("here"), Scratch::new("there"));
    let registry = DockerRegistry::start(&there);
    let signer = Signer::p256(&there, "signer");
    let image = Made::new(97, &[1000]);
    let repository = Repository { registry: &registry, name: "unsigned" };
    repository.image("1", &image);
    let accepting = policy(&here, &registry, &[&signer]);
    let call = wharf(&here, ["run", "--rm", &repository.reference("1")]).env("WHARF_POLICY", &accepting);
    call.fails_with(&["unsigned:1", "there is none"]);
    assert_empty(&here);
}
