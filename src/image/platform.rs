//! Platforms of images, `os/architecture[/variant]`, by Go's names: image-spec image-index.md.
use super::Error;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex};
use std::fmt;
use std::str::FromStr;

/// For which machines an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    /// This machine's.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", None),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "loongarch64" => ("loong64", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            other => (other, None),
        };
        Self::new("linux", architecture, variant)
    }

    /// What an image's configuration says.
    pub(super) fn of(config: &ImageConfiguration) -> Self {
        let (os, architecture) = (config.os().to_string(), config.architecture().to_string());
        Self::new(&os, &architecture, config.variant().as_deref())
    }

    fn of_descriptor(descriptor: &Descriptor) -> Option<Self> {
        let platform = descriptor.platform().as_ref()?;
        let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
        Some(Self::new(&os, &architecture, platform.variant().as_deref()))
    }

    /// The names that people and other tools use become Go's; the variant that is implied is left out.
    fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let variant = variant.filter(|variant| !variant.is_empty());
        let (architecture, variant) = match (architecture, variant) {
            ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant.filter(|&name| name != "v1")),
            ("aarch64" | "arm64", variant) => ("arm64", variant.filter(|&name| name != "v8" && name != "8")),
            ("armhf", None) => ("arm", Some("v7")),
            ("armel", None) => ("arm", Some("v6")),
            ("i386" | "i686", variant) => ("386", variant),
            other => other,
        };
        let variant = variant.map(str::to_owned);
        Self { os: os.to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image of that platform serves where this one is wanted; `None` when it does not.
    fn rank(&self, offered: &Self) -> Option<u32> {
        if (&self.os, &self.architecture) != (&offered.os, &offered.architecture) {
            return None;
        }
        match (&self.variant, &offered.variant) {
            (wanted, offered) if wanted == offered => Some(0),
            (_, None) => Some(1),
            (None, Some(_)) => Some(2),
            // 32-bit ARM machines run what was built for older ones.
            (Some(wanted), Some(offered)) if self.architecture == "arm" => {
                let number = |variant: &str| variant.strip_prefix('v')?.parse::<u32>().ok();
                let (wanted, offered) = (number(wanted)?, number(offered)?);
                (offered < wanted).then(|| 2 + wanted - offered)
            }
            _ => None,
        }
    }

    /// The image of an index for this platform.
    pub(super) fn choose<'a>(&self, index: &'a ImageIndex, what: &str) -> Result<&'a Descriptor, Error> {
        let ranked = |descriptor: &&Descriptor| {
            Self::of_descriptor(descriptor).and_then(|offered| self.rank(&offered)).unwrap_or(u32::MAX)
        };
        if let Some(best) = index.manifests().iter().min_by_key(ranked)
            && ranked(&best) < u32::MAX
        {
            return Ok(best);
        }
        // A layout with one image often states no platform.
        if let [only] = index.manifests().as_slice()
            && only.platform().is_none()
        {
            return Ok(only);
        }
        let name = |descriptor: &Descriptor| match Self::of_descriptor(descriptor) {
            Some(platform) => platform.to_string(),
            None => "an unnamed platform".to_owned(),
        };
        let offered: Vec<String> = index.manifests().iter().take(20).map(name).collect();
        Err(self.lacking(what, offered.join(", ")))
    }

    /// Refuses an image for other machines.
    pub(super) fn check(&self, config: &ImageConfiguration, what: &str) -> Result<(), Error> {
        let offered = Self::of(config);
        match (&self.os, &self.architecture) == (&offered.os, &offered.architecture) {
            true => Ok(()),
            false => Err(self.lacking(what, offered.to_string())),
        }
    }

    /// Writes it into an image's configuration.
    pub(super) fn state_in(&self, config: &mut ImageConfiguration) {
        config.set_os(self.os.as_str().into());
        config.set_architecture(self.architecture.as_str().into());
        config.set_variant(self.variant.clone());
    }

    fn lacking(&self, what: &str, offered: String) -> Error {
        Error::Platform { what: what.to_owned(), wanted: self.to_string(), offered }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Platform {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parts: Vec<&str> = text.split('/').collect();
        let plain = |part: &&str| {
            !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        match parts.as_slice() {
            [os, architecture] if parts.iter().all(plain) => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] if parts.iter().all(plain) => {
                Ok(Self::new(os, architecture, Some(variant)))
            }
            _ => Err(Error::invalid(
                format!("platform {text:?}"),
                "is not OS/ARCHITECTURE[/VARIANT], such as linux/arm64 or linux/arm/v7",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Document;
    use super::*;

    fn index(platforms: &[&str]) -> ImageIndex {
        let entry = |platform: &&str| {
            let parts: Vec<&str> = platform.split('/').collect();
            let variant =
                parts.get(2).map(|variant| format!(r#","variant":"{variant}""#)).unwrap_or_default();
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":"sha256:{}",
                "platform":{{"os":"{}","architecture":"{}"{variant}}}}}"#,
                "0".repeat(64),
                parts[0],
                parts[1]
            )
        };
        let entries: Vec<String> = platforms.iter().map(entry).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        let Document::Index(index) = Document::parse(text.as_bytes(), "x").unwrap() else { panic!() };
        *index
    }

    fn chosen(wanted: &str, offered: &[&str]) -> Result<String, String> {
        let wanted: Platform = wanted.parse().unwrap();
        let index = index(offered);
        let found = wanted.choose(&index, "x").map_err(|error| error.to_string())?;
        Ok(Platform::of_descriptor(found).unwrap().to_string())
    }

    #[test]
    fn the_best_image_of_an_index_is_chosen() {
        for (wanted, offered, expected) in [
            ("linux/amd64", &["linux/s390x", "linux/amd64"][..], "linux/amd64"),
            ("linux/arm64", &["linux/arm/v7", "linux/arm64/v8"], "linux/arm64"),
            ("linux/arm/v7", &["linux/arm/v5", "linux/arm/v6", "linux/arm64"], "linux/arm/v6"),
            ("linux/arm/v7", &["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
            ("linux/aarch64", &["windows/arm64", "linux/arm64"], "linux/arm64"),
            ("linux/amd64", &["linux/amd64/v3", "linux/amd64"], "linux/amd64"),
        ] {
            assert_eq!(chosen(wanted, offered).as_deref(), Ok(expected), "{wanted} of {offered:?}");
        }
    }

    #[test]
    fn platforms_that_are_not_offered_are_told_with_those_that_are() {
        let error = chosen("linux/arm/v6", &["linux/arm/v7", "unknown/unknown"]).unwrap_err();
        assert!(error.contains("linux/arm/v6") && error.contains("linux/arm/v7"), "{error}");
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for bad in ["", "linux", "linux/", "/amd64", "linux/arm/v7/x", "linux/a b"] {
            assert!(bad.parse::<Platform>().is_err(), "{bad:?}");
        }
    }
}
