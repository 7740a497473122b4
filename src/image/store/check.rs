//! `wharf fsck`: whether the store holds what it says. Every blob is digested, every document read, and every
//! unpacked layer compared with what its blob unpacks to.
use super::super::digest::Hashing;
use super::super::progress::{BlobState, Event, Progress};
use super::super::unpack::{Layer, Verdict, restated_name};
use super::super::{Digest, Error};
use super::{InUse, Store, index};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::io;

/// How the store is checked.
#[derive(Debug, Clone, Copy, Default)]
pub struct CheckOptions {
    /// Whether damage is repaired where content can be derived from other content.
    pub repair: bool,
    /// Whether unpacked layers are only looked for, and not compared.
    pub quick: bool,
    /// Whether nobody may change the store meanwhile. Without it, what others do may look like damage; it takes as
    /// long as everything that is there takes to read.
    pub alone: bool,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Images looked at.
    pub images: u64,
    /// Blobs digested.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Unpacked layers compared.
    pub layers: u64,
    /// Damage.
    pub findings: Vec<Finding>,
}

/// One damage.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Which blob, layer or image.
    pub what: String,
    /// What is wrong with it, and what to do.
    pub problem: String,
    /// Whether it is mended.
    pub repaired: bool,
}

impl Report {
    /// Adds a finding.
    pub fn find(&mut self, what: impl Into<String>, problem: impl Into<String>, repaired: bool) {
        self.findings.push(Finding { what: what.into(), problem: problem.into(), repaired });
    }

    /// Adds what a comparison with the layer's `source` has found.
    fn judge(&mut self, what: String, verdict: &Verdict, source: &str, repaired: &str, in_use: bool) {
        match verdict {
            Verdict::Sound => {}
            Verdict::Replaced(difference) => {
                self.find(what, format!("differs from {source} ({difference}); {repaired}"), true);
            }
            Verdict::Differs(difference) => {
                let advice = match in_use {
                    true => "remove the instances that use it, then use --repair",
                    false => "use --repair",
                };
                self.find(what, format!("differs from {source} ({difference}); {advice}"), false);
            }
        }
    }

    /// Whether damage is left.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| !finding.repaired)
    }
}

impl Store {
    /// Checks everything. With `repair`, damaged blobs are removed, so that they can be fetched again, and layers
    /// unpacked anew, unless `in_use` has them.
    ///
    /// # Errors
    /// When the store cannot be read; damage is no error.
    pub fn check(
        &self,
        options: CheckOptions,
        in_use: &InUse,
        progress: &dyn Progress,
    ) -> Result<Report, Error> {
        let _lock = (options.repair || options.alone).then(|| self.lock()).transpose()?;
        let mut report = Report::default();
        let sound = self.check_blobs(options, progress, &mut report)?;
        if let (true, Err(error)) = (options.repair, index::read(&self.layout)) {
            let count = self.rebuild_index(&sound)?;
            let problem =
                format!("{error}; put aside as index.json.damaged, {count} images found among the blobs");
            report.find("index.json", problem, true);
        }
        let images = self.check_images(&sound, &mut report);
        if options.quick {
            return Ok(report);
        }
        let images = self.check_diff_ids(images, &mut report);
        let layers = images.iter().flatten().map(|layer| (layer.diff_id.hex(), layer)).collect();
        self.check_layers(options, in_use, &layers, progress, &mut report)?;
        self.check_restated(options, in_use, &images, &mut report);
        Ok(report)
    }

    /// The digits of the blobs that are what their names say.
    fn check_blobs(
        &self,
        options: CheckOptions,
        progress: &dyn Progress,
        report: &mut Report,
    ) -> Result<HashSet<String>, Error> {
        let mut sound = HashSet::new();
        for (hex, size) in self.blobs.list()? {
            report.blobs += 1;
            report.blob_bytes += size;
            let problem = match format!("sha256:{hex}").parse::<Digest>() {
                Err(_) => Some("is no blob: its name is no digest".to_owned()),
                Ok(digest) => {
                    progress.event(&Event::Blob { digest: &digest, size, state: BlobState::At(0) });
                    let problem = self.blob_problem(&digest);
                    progress.event(&Event::Blob { digest: &digest, size, state: BlobState::Done });
                    problem
                }
            };
            match problem {
                None => drop(sound.insert(hex)),
                Some(problem) if options.repair => {
                    self.blobs.remove(&hex)?;
                    report.find(format!("blob {hex}"), format!("{problem}; removed"), true);
                }
                Some(problem) => report.find(format!("blob {hex}"), problem, false),
            }
        }
        Ok(sound)
    }

    fn blob_problem(&self, digest: &Digest) -> Option<String> {
        let digested = self.blobs.reader(digest).and_then(|file| {
            let mut file = Hashing::new(file);
            let copied = io::copy(&mut file, &mut io::sink());
            copied.map_err(|error| Error::invalid(format!("blob {digest}"), error.to_string()))?;
            Ok(file.finish().0)
        });
        match digested {
            Ok(found) if found == *digest => None,
            Ok(found) => Some(format!("is damaged: its content has digest {found}")),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }

    /// The layers of all images whose documents are sound, as far as their blobs are.
    fn check_images(&self, sound: &HashSet<String>, report: &mut Report) -> Vec<(String, Vec<Layer>)> {
        let mut images = Vec::new();
        let entries = match index::read(&self.layout) {
            Ok(entries) => entries,
            Err(error) => {
                report.find("index.json", format!("{error}; use --repair"), false);
                return images;
            }
        };
        for entry in &entries {
            report.images += 1;
            let what = format!("image {}", entry.shown());
            let parts = self.read(entry).and_then(|image| Ok((image.blobs()?, image.layers()?)));
            let (blobs, of_image) = match parts {
                Ok(parts) => parts,
                Err(error) => {
                    report.find(what, format!("{error}; pull or load it again"), false);
                    continue;
                }
            };
            for blob in blobs.iter().filter(|blob| !sound.contains(blob.hex())) {
                report.find(&what, format!("lacks blob {blob}; pull or load it again"), false);
            }
            let layers = of_image.into_iter().filter(|layer| sound.contains(layer.blob.hex())).collect();
            images.push((what, layers));
        }
        images
    }

    /// Leaves the layers that are what their images say. The comparison with what is unpacked tells that of one blob
    /// for each diff_id; others, and those of layers that are not unpacked, are looked at here.
    fn check_diff_ids(&self, images: Vec<(String, Vec<Layer>)>, report: &mut Report) -> Vec<Vec<Layer>> {
        let mut blobs: HashMap<Digest, HashSet<Digest>> = HashMap::new();
        for layer in images.iter().flat_map(|(_, layers)| layers) {
            blobs.entry(layer.diff_id.clone()).or_default().insert(layer.blob.clone());
        }
        let mut known: HashMap<(Digest, Digest), bool> = HashMap::new();
        let mut sound = Vec::new();
        for (what, layers) in images {
            let mut of_image = Vec::new();
            for layer in layers {
                let single = blobs.get(&layer.diff_id).is_some_and(|blobs| blobs.len() == 1);
                if single && self.unpacked.holds(&layer.diff_id) {
                    of_image.push(layer);
                    continue;
                }
                let pair = (layer.blob.clone(), layer.diff_id.clone());
                let fits = match known.get(&pair) {
                    Some(fits) => *fits,
                    None => {
                        let blob = self.blobs.reader(&layer.blob);
                        blob.and_then(|blob| self.unpacked.verify_blob(&layer, blob)).is_ok()
                    }
                };
                known.insert(pair, fits);
                if fits {
                    of_image.push(layer);
                } else {
                    let Layer { blob, diff_id, .. } = layer;
                    let problem =
                        format!("has layer {blob}, which is not what its config says ({diff_id}); remove it");
                    report.find(&what, problem, false);
                }
            }
            sound.push(of_image);
        }
        sound
    }

    fn check_layers(
        &self,
        options: CheckOptions,
        in_use: &InUse,
        layers: &HashMap<&str, &Layer>,
        progress: &dyn Progress,
        report: &mut Report,
    ) -> Result<(), Error> {
        for hex in self.unpacked.list()? {
            let what = format!("unpacked layer {hex}");
            let Some(layer) = layers.get(hex.as_str()) else { continue };
            report.layers += 1;
            let in_use = in_use.layers.contains(&hex);
            let verdict = self.unpacked.verify(layer, &self.blobs, options.repair && !in_use);
            progress.event(&layer.event(BlobState::Unpacked));
            match verdict {
                Ok(verdict) => report.judge(what, &verdict, "its blob", "unpacked anew", in_use),
                Err(error) => report.find(what, format!("cannot be compared: {error}"), false),
            }
        }
        Ok(())
    }

    /// The layers that are made over images whose upper layers imply directories, after those below them.
    fn check_restated(
        &self,
        options: CheckOptions,
        in_use: &InUse,
        images: &[Vec<Layer>],
        report: &mut Report,
    ) {
        let names: HashMap<String, &Vec<Layer>> =
            images.iter().map(|layers| (restated_name(layers).hex().to_owned(), layers)).collect();
        for (hex, layers) in names {
            let what = format!("unpacked layer {hex}");
            let in_use = in_use.layers.contains(&hex);
            match self.unpacked.verify_restated(layers, options.repair && !in_use) {
                Ok(None) => continue,
                Ok(Some(verdict)) => {
                    report.judge(what, &verdict, "the directories of its image", "made anew", in_use);
                }
                Err(error) => report.find(what, format!("cannot be compared: {error}"), false),
            }
            report.layers += 1;
        }
    }
}
