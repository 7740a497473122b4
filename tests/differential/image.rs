//! One image, unpacked by everybody: umoci, wharf into a bundle, wharf as an overlay, GNU tar.
use crate::common::layer::{Entry, keep_for_fuzzing, layer};
use crate::common::{Call, Scratch};
use crate::tree::Tree;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use wharf::image::{Overlay, Store, Upper};

/// Leaves the test, aloud, without the tools it compares with.
macro_rules! require_tools {
    ($($tool:literal),+) => {
        crate::common::require_root!();
        $(crate::common::require!(crate::common::program_exists($tool), "needs {}", $tool);)+
    };
}
pub(crate) use require_tools;

/// An image under construction, as an OCI layout made by umoci.
pub(crate) struct Image {
    scratch: Scratch,
    layers: Vec<PathBuf>,
}

impl Image {
    pub(crate) fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        let layout = scratch.path().join("layout");
        umoci(["init", "--layout"], &layout).ok();
        umoci(["new", "--image"], &tagged(&layout)).ok();
        umoci(["config", "--config.cmd", "sh", "--image"], &tagged(&layout)).ok();
        Self { scratch, layers: Vec::new() }
    }

    /// Adds a layer of these entries.
    pub(crate) fn layer(self, entries: impl IntoIterator<Item = Entry>) -> Self {
        self.raw(&layer(entries))
    }

    /// Adds a layer that is this tar stream.
    pub(crate) fn raw(mut self, stream: &[u8]) -> Self {
        let path = self.scratch.path().join(format!("layer{}.tar", self.layers.len()));
        fs::write(&path, stream).unwrap();
        keep_for_fuzzing(stream);
        umoci(["raw", "add-layer", "--image"], &tagged(&self.layout())).arg(&path).ok();
        self.layers.push(path);
        self
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    pub(crate) fn layout(&self) -> PathBuf {
        self.scratch.path().join("layout")
    }

    /// What umoci makes of it.
    #[track_caller]
    pub(crate) fn by_umoci(&self) -> Tree {
        let bundle = self.scratch.path().join("umoci");
        umoci(["unpack", "--image"], &tagged(&self.layout())).arg(&bundle).ok();
        let mut tree = Tree::read(&bundle.join("rootfs"));
        // umoci gives a root that no layer states the year 1970.
        let root = tree.0.get_mut(Path::new("")).unwrap();
        root.mtime = root.mtime.filter(|time| *time != (0, 0));
        tree
    }

    /// Where umoci refuses the image, what it says.
    #[track_caller]
    pub(crate) fn refused_by_umoci(&self) -> String {
        let bundle = self.scratch.path().join("umoci");
        let outcome = umoci(["unpack", "--image"], &tagged(&self.layout())).arg(&bundle).outcome();
        assert!(!outcome.success(), "{outcome}");
        outcome.stderr
    }

    /// What GNU tar makes of the layers, one over the other; whiteouts mean nothing to it.
    #[track_caller]
    pub(crate) fn by_tar(&self) -> Tree {
        let rootfs = self.scratch.path().join("tar");
        fs::create_dir(&rootfs).unwrap();
        for layer in &self.layers {
            let call = Call::new("tar").args(["--extract", "--preserve-permissions", "--same-owner"]);
            let call = call.args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "--directory"]);
            call.arg(&rootfs).arg("--file").arg(layer).ok();
        }
        Tree::read(&rootfs)
    }

    /// `wharf load` of any archive or layout, then `wharf unpack`.
    #[track_caller]
    pub(crate) fn bundle_of(&self, source: &Path) -> Tree {
        let scratch = &self.scratch;
        // The store keeps what it has, so each source gets a store of its own.
        let root = scratch.path().join(format!("{}.root", source.file_name().unwrap().to_str().unwrap()));
        let bundle = root.join("bundle");
        scratch.wharf_at(&root, ["load", "--no-unpack", "--tag", "case"]).arg(source).ok();
        scratch.wharf_at(&root, ["unpack", "case"]).arg(&bundle).ok();
        Tree::read(&bundle.join("rootfs"))
    }

    /// What wharf writes into a bundle.
    #[track_caller]
    pub(crate) fn by_wharf(&self) -> Tree {
        self.load();
        let bundle = self.scratch.path().join("wharf");
        self.scratch.wharf(["unpack", "case"]).arg(&bundle).ok();
        Tree::read(&bundle.join("rootfs"))
    }

    /// What wharf's instances see: the layers' directories under an overlay. Its root is the instance's.
    #[track_caller]
    pub(crate) fn by_overlay(&self) -> Tree {
        self.load();
        let store = Store::open(&self.scratch.root()).unwrap();
        let layers = store.layers(&store.find("case").unwrap(), &()).unwrap();
        let [upper, work] = ["upper", "work"].map(|name| self.scratch.path().join(name));
        fs::create_dir(&upper).unwrap();
        fs::create_dir(&work).unwrap();
        let upper = Upper::Disk { upper: &upper, work: &work, volatile: false };
        let mount = Overlay { layers: &layers, upper, user_namespace: None }.mount().unwrap();
        Tree::read(Path::new(&format!("/proc/self/fd/{}", mount.as_raw_fd()))).without("")
    }

    #[track_caller]
    fn load(&self) {
        self.scratch.wharf(["load", "--no-unpack", "--tag", "case"]).arg(self.layout()).ok();
    }

    /// `wharf load` and `wharf unpack`, which must fail; what they say.
    #[track_caller]
    pub(crate) fn refused_by_wharf(&self, texts: &[&str]) {
        self.load();
        let bundle = self.scratch.path().join("wharf");
        self.scratch.wharf(["unpack", "case"]).arg(&bundle).fails_with(texts);
        assert!(!bundle.exists());
    }

    /// Fails unless everybody's tree holds exactly these names, and ours the same in both forms. For cases
    /// in which umoci forgets the time of a directory.
    #[track_caller]
    pub(crate) fn assert_names(&self, names: &[&str]) {
        let (theirs, bundle, overlay) = (self.by_umoci(), self.by_wharf(), self.by_overlay());
        for (whose, tree) in [("umoci", &theirs), ("wharf unpack", &bundle), ("wharf's overlay", &overlay)] {
            assert_eq!(tree.names(), names, "{whose}");
        }
        bundle.without("").assert_same("wharf unpack", &overlay, "wharf's overlay");
    }

    /// Fails unless both forms of wharf are the same, and the same as umoci's but for times of directories, which
    /// umoci forgets in some cases; returns the tree.
    #[track_caller]
    pub(crate) fn assert_as_umoci_but_for_times(&self) -> Tree {
        let (theirs, bundle, overlay) = (self.by_umoci(), self.by_wharf(), self.by_overlay());
        bundle.clone().without("").assert_same("wharf unpack", &overlay, "wharf's overlay");
        let undated = |tree: Tree| tree.without("").undated();
        undated(bundle).assert_same("wharf unpack", &undated(theirs), "umoci");
        overlay
    }

    /// Fails unless both forms of wharf are what umoci makes; returns it.
    #[track_caller]
    pub(crate) fn assert_as_umoci(&self) -> Tree {
        let theirs = self.by_umoci();
        self.assert_as(&theirs, "umoci");
        theirs
    }

    /// Fails unless both forms of wharf are what GNU tar makes; returns it.
    #[track_caller]
    pub(crate) fn assert_as_tar(&self) -> Tree {
        let theirs = self.by_tar();
        self.assert_as(&theirs, "GNU tar");
        theirs
    }

    /// Fails unless both forms of wharf are this tree.
    #[track_caller]
    pub(crate) fn assert_as(&self, tree: &Tree, whose: &str) {
        self.by_wharf().assert_same("wharf unpack", tree, whose);
        self.by_overlay().assert_same("wharf's overlay", &tree.clone().without(""), whose);
    }
}

pub(crate) fn umoci<const N: usize>(words: [&str; N], path: &Path) -> Call {
    Call::new("umoci").args(words).arg(path)
}

/// `LAYOUT:case`, as umoci names an image.
pub(crate) fn tagged(layout: &Path) -> PathBuf {
    PathBuf::from(format!("{}:case", layout.display()))
}
