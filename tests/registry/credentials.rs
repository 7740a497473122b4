//! Who may come in: passwords, helpers, certificates.
use crate::common::{self, Call, Scratch, eventually, program_exists, require};
use crate::docker_registry::{DockerRegistry, Setup};
use crate::images::Made;
use crate::standin::{Content, Reply, StandIn};
use crate::{auths, docker_config, hosts_toml, wharf};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

fn with_password(scratch: &Scratch) -> DockerRegistry {
    let passwords = scratch.path().join("htpasswd");
    Call::new("htpasswd").args(["-cbB", passwords.to_str().expect("UTF-8"), "ann", "s3cret:word"]).ok();
    DockerRegistry::start_with(scratch, &Setup { passwords: Some(passwords), ..Setup::default() })
}

#[test]
fn a_registry_with_passwords_lets_in_who_is_logged_in() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("htpasswd"), "needs htpasswd");
    let scratch = Scratch::new("login");
    let registry = with_password(&scratch);
    let host = registry.host();
    let name = format!("{host}/shell:1");
    scratch.load("shell");
    let login = |password: &str| {
        let call = wharf(&scratch, ["login", "--username", "ann", "--password-stdin", &host]);
        call.stdin(format!("{password}\n"))
    };
    let hint = format!("wharf login {host}");
    wharf(&scratch, ["push", "shell", &name]).fails_with(&["401", &hint]);
    login("wrong").fails_with(&["401", "user name or password is wrong"]);
    assert!(!scratch.path().join("docker/config.json").exists());
    let done = login("s3cret:word").ok();
    assert!(done.stdout.contains("docker/config.json") && !done.stdout.contains("s3cret"), "{done}");
    let config = scratch.path().join("docker/config.json");
    assert_eq!(std::fs::metadata(&config).expect("config.json").permissions().mode() & 0o777, 0o600);
    wharf(&scratch, ["push", "shell", &name]).ok();
    wharf(&scratch, ["pull", &name]).ok();
    // Docker's own spelling, and Podman's file.
    docker_config(&scratch, &auths(&format!("http://{host}/v2/"), "ann", "s3cret:word"));
    wharf(&scratch, ["pull", &name]).ok();
    docker_config(&scratch, &json!({}));
    let file = scratch.path().join("auth.json");
    std::fs::write(&file, auths(&format!("{host}/shell"), "ann", "s3cret:word").to_string()).expect("write");
    wharf(&scratch, ["pull", &name]).env("REGISTRY_AUTH_FILE", &file).ok();
    std::fs::create_dir_all(scratch.path().join("xdg/containers")).expect("create");
    std::fs::rename(&file, scratch.path().join("xdg/containers/auth.json")).expect("rename");
    wharf(&scratch, ["pull", &name]).ok();
    std::fs::remove_dir_all(scratch.path().join("xdg")).expect("remove");

    docker_config(&scratch, &auths(&host, "ann", "old"));
    wharf(&scratch, ["pull", &name]).fails_with(&["401", "stored credential is not accepted", &hint]);
    let out = wharf(&scratch, ["logout", &host]).ok();
    assert!(out.stdout.starts_with("logged out"), "{out}");
    assert!(wharf(&scratch, ["logout", &host]).ok().stdout.starts_with("was not logged in"));
    wharf(&scratch, ["pull", &name]).fails_with(&["401", &hint]);
    std::fs::write(&config, "{\"auths\": ").expect("write");
    wharf(&scratch, ["pull", &name]).fails_with(&["config.json", "line 1"]);
}

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("htpasswd") && program_exists("script"), "needs htpasswd and script(1)");
    let scratch = Scratch::new("ask");
    let registry = with_password(&scratch);
    let mut running = wharf(&scratch, ["login", &registry.host()]).in_terminal(24, 100).spawn();
    eventually("it asks for the name", || running.stdout().contains("user name"));
    running.write("ann\r");
    eventually("it asks for the password", || running.stdout().contains("password of ann"));
    running.write("s3cret:worx\u{7f}d\r");
    let outcome = running.wait();
    assert!(outcome.success() && outcome.stdout.contains("logged in"), "{outcome}");
    assert!(!outcome.stdout.contains("s3cret"), "{outcome}");
    wharf(&scratch, ["login", &registry.host()]).fails_with(&["no terminal", "--password-stdin"]);
}

/// A helper that keeps what it is given in files below `directory`.
fn helper(directory: &Path) -> PathBuf {
    let bin = directory.join("bin");
    std::fs::create_dir_all(&bin).expect("create");
    let script = format!(
        "#!/bin/sh\nfile={}/secret\ncase $1 in\n\
         store) cat >$file ;;\n\
         erase) rm $file ;;\n\
         get) read server; [ -e $file ] || {{ echo credentials not found in native keychain; exit 1; }}; cat $file ;;\n\
         esac\n",
        directory.display()
    );
    let program = bin.join("docker-credential-shelf");
    std::fs::write(&program, script).expect("write");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    bin
}

#[test]
fn a_credential_helper_keeps_and_gives_credentials() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("htpasswd"), "needs htpasswd");
    let scratch = Scratch::new("helper");
    let registry = with_password(&scratch);
    let host = registry.host();
    let bin = helper(scratch.path());
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("PATH"));
    scratch.load("shell");
    let name = format!("{host}/shell:1");
    let push = || wharf(&scratch, ["push", "shell", &name]).env("PATH", &path);
    for config in
        [json!({"credsStore": "shelf"}), json!({"credHelpers": {&host: "shelf"}, "credsStore": "none"})]
    {
        docker_config(&scratch, &config);
        push().fails_with(&["401"]);
        let login = wharf(&scratch, ["login", "-u", "ann", "--password-stdin", &host]).env("PATH", &path);
        assert!(login.stdin("s3cret:word").ok().stdout.contains("docker-credential-shelf"));
        let text = std::fs::read_to_string(scratch.path().join("docker/config.json")).expect("read");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(kept["auths"][&host], json!({}), "{text}");
        let secret: Value =
            serde_json::from_slice(&std::fs::read(scratch.path().join("secret")).expect("secret"))
                .expect("JSON");
        assert_eq!((&secret["ServerURL"], &secret["Secret"]), (&host.clone().into(), &"s3cret:word".into()));
        push().ok();
        wharf(&scratch, ["logout", &host]).env("PATH", &path).ok();
        assert!(!scratch.path().join("secret").exists());
    }
    docker_config(&scratch, &json!({"credsStore": "absent"}));
    push().fails_with(&["docker-credential-absent", "cannot be executed"]);
}

/// An authority, and a certificate of it for 127.0.0.1.
struct Authority(PathBuf);

impl Authority {
    fn new(directory: PathBuf) -> Self {
        std::fs::create_dir(&directory).expect("create");
        let this = Self(directory);
        this.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
            -addext basicConstraints=critical,CA:TRUE -keyout ca.key -out ca.crt",
        );
        this
    }
    fn issue(&self, name: &str, extension: &str) -> (PathBuf, PathBuf) {
        std::fs::write(self.0.join("extension"), extension).expect("write");
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name} \
            -keyout {name}.key -out {name}.csr"
        ));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 \
            -extfile extension -out {name}.crt"
        ));
        (self.0.join(format!("{name}.crt")), self.0.join(format!("{name}.key")))
    }
    fn openssl(&self, arguments: &str) {
        Call::new("openssl").args(arguments.split_whitespace()).current_dir(&self.0).ok();
    }
}

#[test]
fn a_private_authority_is_trusted_where_hosts_toml_says_so() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("openssl"), "needs openssl");
    let scratch = Scratch::new("tls");
    let authority = Authority::new(scratch.path().join("authority"));
    let tls = Some(authority.issue("server", "subjectAltName=IP:127.0.0.1"));
    let registry = DockerRegistry::start_with(&scratch, &Setup { tls, ..Setup::default() });
    let host = registry.host();
    let name = format!("{host}/shell:1");
    scratch.load("shell");
    let push = || wharf(&scratch, ["push", "shell", &name]);
    // Loopback is no reason to take any certificate, nor to fall back to plain HTTP.
    push().fails_with(&["https://", "certificate is not trusted", "hosts.toml"]);
    let ca = authority.0.join("ca.crt");
    hosts_toml(&scratch, &host, &format!("server = \"https://{host}\"\nca = \"{}\"", ca.display()));
    push().ok();
    // The whole file through another way to say the same, and a relative path.
    std::fs::copy(&ca, scratch.path().join("certs.d").join(&host).join("own.pem")).expect("copy");
    hosts_toml(&scratch, &host, &format!("[host.\"https://{host}\"]\nca = [\"own.pem\"]"));
    wharf(&scratch, ["pull", &name]).ok();
    hosts_toml(&scratch, &host, &format!("[host.\"https://{host}\"]\nskip_verify = true"));
    wharf(&scratch, ["pull", &name]).ok();
    // Docker's form of the directory, given by the option.
    let docker = scratch.path().join("docker-certs").join(&host);
    std::fs::create_dir_all(&docker).expect("create");
    std::fs::copy(&ca, docker.join("ca.crt")).expect("copy");
    let other = scratch.path().join("docker-certs");
    wharf(&scratch, ["pull", "--certs-dir", other.to_str().expect("UTF-8"), &name]).ok();
    wharf(&scratch, ["pull", &name]).env("WHARF_CERTS_DIR", &other).ok();
    std::fs::write(docker.join("ca.crt"), "no certificate").expect("write");
    wharf(&scratch, ["pull", &name])
        .env("WHARF_CERTS_DIR", &other)
        .fails_with(&["ca.crt", "no PEM certificate"]);
}

#[test]
fn a_registry_that_wants_to_know_its_clients_sees_a_certificate() {
    common::require_root!();
    require!(program_exists("docker-registry"), "needs docker-registry");
    require!(program_exists("openssl"), "needs openssl");
    let scratch = Scratch::new("mtls");
    let authority = Authority::new(scratch.path().join("authority"));
    let tls = Some(authority.issue("server", "subjectAltName=IP:127.0.0.1"));
    let (certificate, key) = authority.issue("client", "extendedKeyUsage=clientAuth");
    let (_, other_key) = authority.issue("other", "extendedKeyUsage=clientAuth");
    let ca = authority.0.join("ca.crt");
    let registry =
        DockerRegistry::start_with(&scratch, &Setup { tls, clients: Some(ca.clone()), ..Setup::default() });
    let host = registry.host();
    scratch.load("shell");
    let push = || wharf(&scratch, ["push", "--retry", "1", "shell", &format!("{host}/shell:1")]);
    let configure = |client: String| {
        hosts_toml(
            &scratch,
            &host,
            &format!("[host.\"https://{host}\"]\nca = \"{}\"\n{client}", ca.display()),
        );
    };
    configure(String::new());
    push().fails_with(&[&host]);
    configure(format!("client = [[\"{}\", \"{}\"]]", certificate.display(), other_key.display()));
    push().fails_with(&["other.key", "client.crt"]);
    configure(format!("client = [[\"{}\", \"{}\"]]", certificate.display(), key.display()));
    push().ok();
}

#[test]
fn basic_credentials_are_given_when_they_are_asked_for_and_not_before() {
    common::require_root!();
    let scratch = Scratch::new("basic");
    let image = Made::new(3, &[5000]);
    let content = Content::of(&image);
    let server = StandIn::start(move |seen| match seen.header("authorization") {
        Some("Basic YW5uOnB3") => content.answer(seen),
        _ => Reply::new(401, "").header("WWW-Authenticate", "Basic realm=\"x\""),
    });
    docker_config(&scratch, &auths(&server.host(), "ann", "pw"));
    wharf(&scratch, ["pull", &format!("{}/a:1", server.host())]).ok();
    let seen = server.seen_of("GET", "/manifests/1");
    assert_eq!(seen.iter().filter(|seen| seen.header("authorization").is_none()).count(), 1);
    assert_eq!(server.seen().iter().filter(|seen| seen.target.contains("/blobs/")).count(), 2);
}
