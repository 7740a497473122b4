//! `wharf login` and `logout`
use super::listing::print_line;
use super::pull::RegistryOptions;
use crate::cli::terminal;
use crate::image::registry::{self, Credential, CredentialFiles};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use std::io::{BufRead as _, Read as _};

/// No password is longer; tokens in its place are a few thousand bytes.
const PASSWORD_LIMIT: u64 = 64 << 10;

/// Store a credential for a registry
#[derive(Debug, Args)]
#[command(
    after_help = "The registry is asked whether it knows the credential. It is stored as Docker stores it: in \
        $DOCKER_CONFIG/config.json or ~/.docker/config.json, or with the credential helper that this file names."
)]
pub(super) struct Login {
    /// Host of the registry, perhaps with a port [default: docker.io]
    #[arg(default_value = "docker.io", hide_default_value = true)]
    registry: String,
    /// User name
    #[arg(long, short, value_name = "NAME")]
    username: Option<String>,
    /// Read the password from standard input
    #[arg(long, requires = "username")]
    password_stdin: bool,
    #[command(flatten)]
    options: RegistryOptions,
}

impl Login {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let registry = registry_name(&self.registry)?;
        let user = match self.username {
            Some(user) => user,
            None => ask_user(registry)?,
        };
        let password = if self.password_stdin { read_password()? } else { ask_password(&user, registry)? };
        ensure!(!user.is_empty() && !user.contains(':'), "a user name is not empty and has no colon");
        ensure!(!password.is_empty(), "the password is empty");
        let credential = Credential::Password { user: user.clone(), password: password.clone() };
        registry::login(registry, credential, &self.options.resolve())?;
        let place = CredentialFiles::from_environment().store(registry, &user, &password)?;
        print_line(format!("logged in at {registry} as {user}; the credential is in {place}"))?;
        Ok(0)
    }
}

/// Forget the credential for a registry
#[derive(Debug, Args)]
pub(super) struct Logout {
    /// Host of the registry, perhaps with a port [default: docker.io]
    #[arg(default_value = "docker.io", hide_default_value = true)]
    registry: String,
}

impl Logout {
    pub(super) fn run(self) -> anyhow::Result<u8> {
        let registry = registry_name(&self.registry)?;
        let found = CredentialFiles::from_environment().erase(registry)?;
        let text = if found { "logged out of" } else { "was not logged in at" };
        print_line(format!("{text} {registry}"))?;
        Ok(0)
    }
}

/// Credentials are kept by host alone.
fn registry_name(text: &str) -> anyhow::Result<&str> {
    let name = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let name = name.trim_end_matches('/');
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || b".-:".contains(&byte);
    if name.is_empty() || name.starts_with(['.', '-', ':']) || !name.bytes().all(valid) {
        bail!("registry {text:?}: write a host name, perhaps with a port, such as registry.example:5000");
    }
    Ok(name)
}

fn ask_user(registry: &str) -> anyhow::Result<String> {
    ensure!(
        rustix::termios::isatty(rustix::stdio::stdin()),
        "standard input is no terminal; give --username and --password-stdin"
    );
    prompt(&format!("user name at {registry}: "))?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("read the user name")?;
    Ok(line.trim().to_owned())
}

fn ask_password(user: &str, registry: &str) -> anyhow::Result<String> {
    ensure!(
        rustix::termios::isatty(rustix::stdio::stdin()),
        "standard input is no terminal; give the password with --password-stdin"
    );
    let question = format!("password of {user} at {registry}: ");
    let password = terminal::read_secret(&question).context("read the password")?;
    tell!("");
    password.context("given up")
}

fn read_password() -> anyhow::Result<String> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(PASSWORD_LIMIT + 1).read_to_string(&mut text);
    read.context("read the password from standard input")?;
    ensure!(text.len() as u64 <= PASSWORD_LIMIT, "the password on standard input is too long for one");
    Ok(text
        .strip_suffix('\n')
        .map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line))
        .to_owned())
}

fn prompt(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stderr().lock();
    Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registry_is_named_by_its_host() {
        for (text, name) in [("a.example:5000", "a.example:5000"), ("https://a.example/", "a.example")] {
            assert_eq!(registry_name(text).unwrap(), name);
        }
        for text in ["", "a/b", "..", "https://", "a b", "u@a"] {
            assert!(registry_name(text).is_err(), "{text}");
        }
    }
}
