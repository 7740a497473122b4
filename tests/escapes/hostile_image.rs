//! An image that an attacker made, and the attempts to use it.

use crate::common::layer::{Entry, layer};
use crate::common::layout::Layout;
use crate::common::{Call, Outcome, Scratch, busybox_rootfs};
use crate::sentinel::Sentinel;
use serde_json::Value;

/// The image, and the place on the host that it aims at.
pub(crate) struct HostileImage {
    pub(crate) scratch: Scratch,
    pub(crate) sentinel: Sentinel,
    pub(crate) layout: Layout,
}

impl HostileImage {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let sentinel = Sentinel::new(scratch.path().join("outside"), &["file", "d/file"]);
        let layout = Layout::new(scratch.path().join("image"));
        Self { scratch, sentinel, layout }
    }

    /// Below the attacker's layers, one with busybox as `/bin/busybox`, so that programs can run.
    pub(crate) fn with_busybox(mut self) -> Self {
        let busybox = std::fs::read(busybox_rootfs().join("bin/busybox")).unwrap();
        let mut entries = vec![Entry::directory("bin"), Entry::file("bin/busybox", busybox).mode(0o755)];
        entries.extend(
            ["sh", "true", "env", "pwd", "id", "cat"]
                .map(|name| Entry::symlink(format!("bin/{name}"), "busybox")),
        );
        self.layout.layer(layer(entries));
        self
    }

    pub(crate) fn layer(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.layout.layer(layer(entries));
        self
    }

    /// `wharf load`.
    pub(crate) fn load(&self) -> Call {
        self.load_edited(|_| ())
    }

    /// `wharf load` with a manifest that was tampered with.
    pub(crate) fn load_edited(&self, edit: impl FnOnce(&mut Value)) -> Call {
        self.layout.write(edit);
        self.scratch.wharf(["load", "--no-unpack", "--tag", "evil"]).arg(self.layout.path())
    }

    /// `wharf run` of it.
    pub(crate) fn run(&self, options: &[&str], command: &[&str]) -> Call {
        let name = self.scratch.name("evil");
        let call = self.scratch.wharf(["run", "--rm", "--network", "none", "--name", &name]);
        call.args(options).arg("evil").args(command)
    }

    /// `wharf unpack` of it.
    pub(crate) fn unpack(&self, options: &[&str]) -> Call {
        self.scratch.wharf(["unpack"]).args(options).arg("evil").arg(self.scratch.path().join("bundle"))
    }

    /// Fails unless both a bundle and an instance are refused with these words, nothing is left of either, and
    /// the host is as it was.
    #[track_caller]
    pub(crate) fn assert_refused(&self, options: &[&str], texts: &[&str]) {
        let loaded = self.load().outcome();
        if loaded.success() {
            self.unpack(options).fails_with(texts);
            self.run(options, &[]).fails_with(texts);
        } else {
            // Refused as early as that is as well.
            assert!(texts.iter().all(|text| loaded.stderr.contains(text)), "{loaded}");
        }
        assert!(!self.scratch.path().join("bundle").exists());
        let layers = self.scratch.root().join("layers/sha256");
        assert_eq!(std::fs::read_dir(layers).unwrap().count(), 0);
        self.sentinel.assert_untouched();
    }

    /// Uses the image in both ways, whatever comes of it; the host must be as it was.
    #[track_caller]
    pub(crate) fn assert_contained(&self) -> Outcome {
        self.load().ok();
        let outcome = self.unpack(&[]).outcome();
        assert!(outcome.code.is_some_and(|code| code != 101), "{outcome}");
        let ran = self.run(&[], &[]).outcome();
        assert!(ran.code.is_some_and(|code| code != 101), "{ran}");
        self.sentinel.assert_untouched();
        outcome
    }
}
