//! `--change` of `wharf import`: an instruction of a Dockerfile, applied to an image's configuration.
use super::super::Error;
use super::words::{Word, expand, words};
use crate::sys::signal_name;
use oci_spec::image::{Config, ImageConfiguration};

/// Applies instructions in their order. As in a Dockerfile, a new entry point drops a command that was there
/// before and is not set too.
///
/// # Errors
/// Names the instruction and what is wrong with it; the configuration may be changed in part then.
pub(in crate::image) fn apply_all(
    configuration: &mut ImageConfiguration,
    changes: &[String],
) -> Result<(), Error> {
    let is = |change: &String, wanted: &str| keyword(change).0.eq_ignore_ascii_case(wanted);
    let sets_command = changes.iter().any(|change| is(change, "CMD"));
    if !sets_command && changes.iter().any(|change| is(change, "ENTRYPOINT")) {
        let mut config = configuration.config().clone().unwrap_or_default();
        config.set_cmd(None);
        configuration.set_config(Some(config));
    }
    changes.iter().try_for_each(|change| apply(configuration, change))
}

/// Applies one instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR.
///
/// # Errors
/// Names the instruction and what is wrong with it; nothing is changed then.
pub(in crate::image) fn apply(configuration: &mut ImageConfiguration, change: &str) -> Result<(), Error> {
    let mut config = configuration.config().clone().unwrap_or_default();
    let (instruction, text) = keyword(change);
    let done = match instruction.to_ascii_uppercase().as_str() {
        "CMD" => command(text).map(|command| {
            config.set_cmd(Some(command));
        }),
        "ENTRYPOINT" => command(text).map(|command| {
            config.set_entrypoint(Some(command));
        }),
        "ENV" => environment(&mut config, text),
        "EXPOSE" => expose(&mut config, text),
        "LABEL" => labels(&mut config, text),
        "STOPSIGNAL" => stop_signal(&mut config, text),
        "USER" => one(&config, text).map(|user| {
            config.set_user(Some(user));
        }),
        "VOLUME" => volumes(&mut config, text),
        "WORKDIR" => working_directory(&mut config, text),
        _ => {
            Err("is not CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR".to_owned())
        }
    };
    done.map_err(|reason| Error::invalid(format!("--change {change:?}"), reason))?;
    configuration.set_config(Some(config));
    Ok(())
}

fn keyword(change: &str) -> (&str, &str) {
    let change = change.trim();
    let (keyword, text) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    (keyword, text.trim())
}

/// `["program", "argument"]`, or a line for the shell.
fn command(text: &str) -> Result<Vec<String>, String> {
    match serde_json::from_str(text) {
        Ok(words) => Ok(words),
        Err(_) if text.is_empty() => Err("names no command".to_owned()),
        Err(_) => Ok(["/bin/sh", "-c", text].map(str::to_owned).to_vec()),
    }
}

/// Variables as they are so far, which `$NAME` stands for.
fn variables(config: &Config) -> impl Fn(&str) -> Option<String> {
    let entries = config.env().clone().unwrap_or_default();
    move |name| {
        let value = |entry: &String| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        entries.iter().rev().find_map(value)
    }
}

/// All words of an instruction, at least one.
fn all(config: &Config, text: &str) -> Result<Vec<String>, String> {
    let variables = variables(config);
    let found: Result<Vec<String>, String> =
        words(text)?.iter().map(|word| expand(word, &variables)).collect();
    let found = found?;
    if found.is_empty() { Err("names nothing".to_owned()) } else { Ok(found) }
}

/// What is one word to its end, blanks included.
fn one(config: &Config, text: &str) -> Result<String, String> {
    let value = expand(&Word::whole(text), &variables(config))?;
    if value.is_empty() { Err("has no value".to_owned()) } else { Ok(value) }
}

/// `KEY=VALUE …`, or `KEY VALUE` with blanks in the value.
fn pairs(config: &Config, text: &str) -> Result<Vec<(String, String)>, String> {
    let variables = variables(config);
    let split = words(text)?;
    let first = split.first().ok_or("names nothing")?;
    let pairs: Result<Vec<(String, String)>, String> = if first.split_at_equals().is_some() {
        let pair = |word: &Word| {
            let (key, value) = word.split_at_equals().ok_or("is not KEY=VALUE throughout")?;
            Ok((expand(&key, &variables)?, expand(&value, &variables)?))
        };
        split.iter().map(pair).collect()
    } else {
        let (key, value) = text.split_once(char::is_whitespace).ok_or("is not KEY=VALUE")?;
        Ok(vec![(key.to_owned(), expand(&Word::whole(value.trim()), &variables)?)])
    };
    let pairs = pairs?;
    match pairs.iter().any(|(key, _)| key.is_empty()) {
        true => Err("has an empty name".to_owned()),
        false => Ok(pairs),
    }
}

fn environment(config: &mut Config, text: &str) -> Result<(), String> {
    let mut entries = config.env().clone().unwrap_or_default();
    for (key, value) in pairs(config, text)? {
        let of_key = |entry: &String| entry.split('=').next() == Some(&key);
        let entry = format!("{key}={value}");
        match entries.iter_mut().find(|entry| of_key(entry)) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    config.set_env(Some(entries));
    Ok(())
}

fn labels(config: &mut Config, text: &str) -> Result<(), String> {
    let mut labels = config.labels().clone().unwrap_or_default();
    labels.extend(pairs(config, text)?);
    config.set_labels(Some(labels));
    Ok(())
}

/// `PORT[-PORT][/PROTOCOL] …`
fn expose(config: &mut Config, text: &str) -> Result<(), String> {
    let mut ports = config.exposed_ports().clone().unwrap_or_default();
    for word in all(config, text)? {
        let (range, protocol) = word.split_once('/').unwrap_or((&word, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
        let bad = || format!("names {word:?}, which is not PORT[-PORT][/tcp|udp|sctp]");
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(bad());
        }
        ports.extend((first..=last).map(|port| format!("{port}/{protocol}")));
    }
    ports.sort();
    ports.dedup();
    config.set_exposed_ports(Some(ports));
    Ok(())
}

/// `["/path", …]` or words.
fn volumes(config: &mut Config, text: &str) -> Result<(), String> {
    let named = match serde_json::from_str(text) {
        Ok(paths) => paths,
        Err(_) => all(config, text)?,
    };
    if let Some(bad) = named.iter().find(|path| !path.starts_with('/')) {
        return Err(format!("names {bad:?}, which is not an absolute path"));
    }
    let mut volumes = config.volumes().clone().unwrap_or_default();
    volumes.extend(named);
    volumes.sort();
    volumes.dedup();
    config.set_volumes(Some(volumes));
    Ok(())
}

/// A relative path goes on from the directory that was there.
fn working_directory(config: &mut Config, text: &str) -> Result<(), String> {
    let path = one(config, text)?;
    let base = config.working_dir().clone().filter(|base| base.starts_with('/'));
    let whole = match path.starts_with('/') {
        true => path,
        false => format!("{}/{path}", base.as_deref().unwrap_or("/").trim_end_matches('/')),
    };
    config.set_working_dir(Some(whole));
    Ok(())
}

fn stop_signal(config: &mut Config, text: &str) -> Result<(), String> {
    let signal = one(config, text)?;
    if signal_name::number(&signal).is_none() {
        return Err(format!("names {signal:?}, which is no signal"));
    }
    config.set_stop_signal(Some(signal));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changed(changes: &[&str]) -> Result<Config, String> {
        let mut configuration = ImageConfiguration::default();
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        apply_all(&mut configuration, &changes).map_err(|error| error.to_string())?;
        Ok(configuration.config().clone().unwrap())
    }

    fn json(changes: &[&str]) -> serde_json::Value {
        serde_json::to_value(changed(changes).unwrap()).unwrap()
    }

    #[test]
    fn every_instruction_sets_its_field() {
        let found = json(&[
            r#"CMD ["a", "b c"]"#,
            "entrypoint run it",
            "ENV A=1 B=\"two words\" C=x\\ y",
            "ENV PATH=/opt:$A",
            "ENV OLD form of it",
            "EXPOSE 80 53/udp 8000-8001",
            "LABEL one=1 \"two words\"='$A'",
            "STOPSIGNAL SIGQUIT",
            "USER ${USER:-app}:app",
            "VOLUME /data /more",
            r#"VOLUME ["/data", "/a b"]"#,
            "WORKDIR /srv",
            "WORKDIR web",
        ]);
        let expected = serde_json::json!({
            "Cmd": ["a", "b c"], "Entrypoint": ["/bin/sh", "-c", "run it"],
            "Env": ["A=1", "B=two words", "C=x y", "PATH=/opt:1", "OLD=form of it"],
            "ExposedPorts": {"53/udp": {}, "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}},
            "Labels": {"one": "1", "two words": "$A"}, "StopSignal": "SIGQUIT", "User": "app:app",
            "Volumes": {"/a b": {}, "/data": {}, "/more": {}}, "WorkingDir": "/srv/web",
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_variable_that_is_set_again_keeps_its_place() {
        assert_eq!(json(&["ENV A=1 B=2", "ENV A=3"])["Env"], serde_json::json!(["A=3", "B=2"]));
    }

    #[test]
    fn a_new_entry_point_drops_the_command_that_was_there_and_no_other() {
        let mut configuration = ImageConfiguration::default();
        let mut apply = |changes: &[&str]| {
            let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
            apply_all(&mut configuration, &changes).unwrap();
            configuration.config().as_ref().unwrap().cmd().clone()
        };
        assert!(apply(&["CMD old"]).is_some());
        assert_eq!(apply(&["ENTRYPOINT [\"/run\"]"]), None);
        assert_eq!(apply(&["CMD [\"new\"]", "ENTRYPOINT [\"/run\"]"]), Some(vec!["new".to_owned()]));
    }

    #[test]
    fn what_is_wrong_is_told_with_the_instruction() {
        for (change, reason) in [
            ("", "is not CMD"),
            ("RUN make", "is not CMD"),
            ("CMD", "names no command"),
            ("ENV", "names nothing"),
            ("ENV A", "is not KEY=VALUE"),
            ("ENV A=1 B", "throughout"),
            ("ENV =1", "empty name"),
            ("ENV A=\"1", "quotation mark"),
            ("EXPOSE 0", "\"0\""),
            ("EXPOSE 80/icmp", "80/icmp"),
            ("EXPOSE 90-80", "90-80"),
            ("STOPSIGNAL SIGNO", "SIGNO"),
            ("USER", "no value"),
            ("VOLUME data", "absolute"),
            ("WORKDIR ${A", "closing brace"),
        ] {
            let error = changed(&[change]).unwrap_err();
            assert!(error.contains(reason) && error.contains("change"), "{change:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(CMD|ENV|LABEL|EXPOSE|USER|VOLUME|WORKDIR) [\\PC]{0,40}") {
            let _ = changed(&[&text]);
        }
    }
}
