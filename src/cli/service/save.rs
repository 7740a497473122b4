//! `wharf save`
use crate::image::{self, Compression, Destination, Image, SaveFormat, SaveOptions, Store};
use crate::service::{Roots, hold_images};
use anyhow::bail;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Write images to an archive or layout that other tools load
#[derive(Debug, Args)]
#[command(
    after_help = "An oci-archive is read by wharf load, docker load, podman load, skopeo and ctr, and carries the layers as \
        they are. The same images give the same bytes. A file or directory has its name when it is complete."
)]
pub(super) struct Save {
    /// Names or digests
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
    /// Where to write; - or nothing is standard output
    #[arg(long, short, value_name = "FILE|DIR")]
    output: Option<PathBuf>,
    /// oci-archive: OCI image layout and docker-archive in one tar; docker-archive: with uncompressed layers, for
    /// what reads no other; oci-dir: an OCI image layout as a new directory
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Format::OciArchive)]
    format: Format,
    /// Compress the archive as a whole
    #[arg(long, value_name = "KIND", value_enum, default_value_t = Kind::None)]
    compress: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    OciArchive,
    DockerArchive,
    OciDir,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    None,
    Gzip,
    Zstd,
}

impl Save {
    pub(super) fn run(self, roots: &Roots) -> anyhow::Result<u8> {
        let options = self.options()?;
        // An image that is being saved is not removed under our hands.
        let _held = hold_images(roots)?;
        let store = Store::open(roots.state())?;
        let images: Result<Vec<Image>, image::Error> =
            self.images.iter().map(|name| store.find(name)).collect();
        image::save(&store, &images?, &options)?;
        Ok(0)
    }

    fn options(&self) -> anyhow::Result<SaveOptions> {
        let destination = match &self.output {
            Some(path) if path.as_os_str() != "-" => Destination::Path(path.clone()),
            _ => Destination::Stdout,
        };
        let to_stdout = matches!(destination, Destination::Stdout);
        if self.format == Format::OciDir {
            if to_stdout {
                bail!("--format oci-dir needs a directory; name it with --output");
            }
            if self.compress != Kind::None {
                bail!("--compress is for archives; an oci-dir has its layers as they are");
            }
        } else if to_stdout && rustix::termios::isatty(rustix::stdio::stdout()) {
            bail!(
                "standard output is a terminal, which an archive is not for; name a file with --output, or redirect"
            );
        }
        Ok(SaveOptions {
            format: match self.format {
                Format::OciArchive => SaveFormat::OciArchive,
                Format::DockerArchive => SaveFormat::DockerArchive,
                Format::OciDir => SaveFormat::OciDir,
            },
            compression: match self.compress {
                Kind::None => Compression::None,
                Kind::Gzip => Compression::Gzip,
                Kind::Zstd => Compression::Zstd,
            },
            destination,
        })
    }
}
