//! Debian's docker-registry, on a free port of 127.0.0.1 with its content in the scratch directory.
use crate::common::{Call, Running, Scratch, eventually};
use std::fmt::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

/// A running registry. It ends with this value.
pub(crate) struct DockerRegistry {
    port: u16,
    _program: Running,
}

/// How it is set up.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    /// A file of htpasswd(1).
    pub(crate) passwords: Option<PathBuf>,
    /// Certificate and key.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// The authority of clients.
    pub(crate) clients: Option<PathBuf>,
}

impl DockerRegistry {
    pub(crate) fn start(scratch: &Scratch) -> Self {
        Self::start_with(scratch, &Setup::default())
    }

    pub(crate) fn start_with(scratch: &Scratch, setup: &Setup) -> Self {
        // Another test may take the port between its release and the registry's start.
        for attempt in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("port").port();
            let directory = scratch.path().join(format!("registry{port}"));
            std::fs::create_dir(&directory).expect("create");
            let config = directory.join("config.yml");
            std::fs::write(&config, text(&directory, port, setup)).expect("write");
            let mut program = Call::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .env("OTEL_TRACES_EXPORTER", "none")
                .limit(std::time::Duration::from_secs(600))
                .spawn();
            let mut running = true;
            eventually("the registry listens", || {
                running = program.is_running();
                !running || TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if running && program.is_running() {
                return Self { port, _program: program };
            }
            assert!(attempt < 4, "the registry does not start: {}", program.stderr());
        }
        unreachable!("the last attempt returns or panics")
    }

    /// `HOST:PORT`.
    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

fn text(directory: &Path, port: u16, setup: &Setup) -> String {
    let mut text = format!(
        "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n",
        directory.join("data").display()
    );
    if let Some(file) = &setup.passwords {
        let _ = writeln!(text, "auth:\n  htpasswd: {{realm: test, path: {}}}", file.display());
    }
    let _ = writeln!(text, "http:\n  addr: 127.0.0.1:{port}");
    if let Some((certificate, key)) = &setup.tls {
        let _ =
            writeln!(text, "  tls:\n    certificate: {}\n    key: {}", certificate.display(), key.display());
        if let Some(clients) = &setup.clients {
            let _ = writeln!(text, "    clientcas: [{}]", clients.display());
        }
    }
    text
}
