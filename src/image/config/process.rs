//! The process: arguments, environment, user and working directory.
use super::super::Error;
use super::Overrides;
use super::user::Account;
use oci_spec::image::Config;
use oci_spec::runtime::Process;
use std::os::fd::BorrowedFd;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) fn compile(
    mut process: Process,
    config: Option<&Config>,
    rootfs: BorrowedFd<'_>,
    overrides: &Overrides,
) -> Result<Process, Error> {
    let stated = config.and_then(|config| config.user().as_deref());
    let account = Account::look_up(overrides.user.as_deref().or(stated).unwrap_or(""), rootfs)?;
    process.set_args(Some(arguments(config, overrides)?));
    process.set_env(Some(environment(config, overrides, &account.home)));
    process.set_user(account.user());
    let stated = config.and_then(|config| config.working_dir().as_deref());
    let workdir = overrides.workdir.as_deref().or(stated).filter(|path| !path.is_empty()).unwrap_or("/");
    if !workdir.starts_with('/') {
        return Err(Error::Config(format!(
            "working directory {workdir:?} is not an absolute path; set one with --workdir"
        )));
    }
    process.set_cwd(workdir.into());
    Ok(process)
}

/// Docker's rules: a new entry point drops the image's command, a new command keeps its entry point.
fn arguments(config: Option<&Config>, overrides: &Overrides) -> Result<Vec<String>, Error> {
    let stated = |field: Option<&Option<Vec<String>>>| field.and_then(Clone::clone).unwrap_or_default();
    let entrypoint = match &overrides.entrypoint {
        Some(entrypoint) => entrypoint.clone(),
        None => stated(config.map(Config::entrypoint)),
    };
    let command = match (overrides.command.is_empty(), &overrides.entrypoint) {
        (false, _) => overrides.command.clone(),
        (true, Some(_)) => Vec::new(),
        (true, None) => stated(config.map(Config::cmd)),
    };
    let arguments: Vec<String> = entrypoint.into_iter().chain(command).collect();
    if arguments.first().is_none_or(String::is_empty) {
        let text = "the image states neither an entry point nor a command; name a command after the image, or --entrypoint";
        return Err(Error::Config(text.to_owned()));
    }
    Ok(arguments)
}

/// Only KEY=VALUE: an entry without `=` would stand for the host's variable elsewhere (CVE-2026-57231).
fn environment(config: Option<&Config>, overrides: &Overrides, home: &str) -> Vec<String> {
    let mut variables: Vec<(String, String)> = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned())];
    let mut set = |key: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => value.clone_into(old),
        None => variables.push((key.to_owned(), value.to_owned())),
    };
    if let Some(hostname) = &overrides.hostname {
        set("HOSTNAME", hostname);
    }
    set("HOME", home);
    let stated = config.and_then(|config| config.env().as_deref()).unwrap_or_default();
    for (key, value) in
        stated.iter().filter_map(|entry| entry.split_once('=')).filter(|(key, _)| !key.is_empty())
    {
        set(key, value);
    }
    for (key, value) in &overrides.env {
        set(key, value);
    }
    variables.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::image::ConfigBuilder;

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn entry_point_and_command_combine_as_in_docker() {
        let config =
            ConfigBuilder::default().entrypoint(strings(&["/run"])).cmd(strings(&["a"])).build().unwrap();
        let args = |entrypoint: Option<&[&str]>, command: &[&str]| {
            let entrypoint = entrypoint.map(strings);
            let overrides = Overrides { entrypoint, command: strings(command), ..Overrides::default() };
            arguments(Some(&config), &overrides).unwrap()
        };
        assert_eq!(args(None, &[]), ["/run", "a"]);
        assert_eq!(args(None, &["b"]), ["/run", "b"]);
        assert_eq!(args(Some(&["/x"]), &[]), ["/x"]);
        assert_eq!(args(Some(&["/x"]), &["b"]), ["/x", "b"]);
        assert!(arguments(None, &Overrides::default()).is_err());
    }

    #[test]
    fn the_environment_is_merged_and_entries_without_value_are_dropped() {
        let config =
            ConfigBuilder::default().env(strings(&["A=1", "HOST", "*", "=x", "HOME=/h"])).build().unwrap();
        let overrides = Overrides { env: vec![("A".into(), "2=3".into())], ..Overrides::default() };
        let env = environment(Some(&config), &overrides, "/root");
        assert_eq!(env, [&format!("PATH={DEFAULT_PATH}"), "HOME=/h", "A=2=3"]);
    }
}
