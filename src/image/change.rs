//! `--change INSTRUCTION`: what a new image's configuration says otherwise than its parent's, in the words of a
//! Dockerfile.
use super::Error;
use super::config::is_signal;
use serde_json::{Map, Value, json};
use std::str::FromStr;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// The command, or the arguments of the entry point.
    Cmd(Vec<String>),
    /// The entry point. It takes the command away, which was made for another.
    Entrypoint(Vec<String>),
    /// Environment variables.
    Env(Vec<(String, String)>),
    /// Ports, `PORT[/PROTOCOL]`.
    Expose(Vec<String>),
    /// Labels.
    Label(Vec<(String, String)>),
    /// User and group.
    User(String),
    /// Paths of volumes.
    Volume(Vec<String>),
    /// Working directory; a relative one starts at the one before.
    Workdir(String),
    /// Name or number of the signal.
    StopSignal(String),
}

const KNOWN: &str = "CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME and WORKDIR";

impl FromStr for ConfigChange {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason: &str| Err(Error::invalid(format!("--change {text:?}"), reason));
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let rest = rest.trim();
        if rest.is_empty() {
            return refuse(&format!("is not an instruction and its arguments; instructions are {KNOWN}"));
        }
        let one = || -> Option<String> {
            let words = words(rest)?;
            <[String; 1]>::try_from(words).ok().map(|[word]| word)
        };
        let change = match word.to_ascii_uppercase().as_str() {
            "CMD" => Some(Self::Cmd(command(rest))),
            "ENTRYPOINT" => Some(Self::Entrypoint(command(rest))),
            "ENV" => pairs(rest).map(Self::Env),
            "EXPOSE" => words(rest).filter(|ports| ports.iter().all(|port| is_port(port))).map(Self::Expose),
            "LABEL" => pairs(rest).map(Self::Label),
            "USER" => one().map(Self::User),
            "VOLUME" => json_list(rest).or_else(|| words(rest)).map(Self::Volume),
            "WORKDIR" => one().map(Self::Workdir),
            "STOPSIGNAL" => one().filter(|name| is_signal(name)).map(Self::StopSignal),
            _ => return refuse(&format!("is not a known instruction; they are {KNOWN}")),
        };
        match change {
            Some(change) => Ok(change),
            None => refuse("has arguments that the instruction does not take"),
        }
    }
}

/// A list as JSON is executed as it is; anything else by a shell.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| ["/bin/sh", "-c", text].map(str::to_owned).into())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Words of a shell; `None` when a quote is not closed.
fn words(text: &str) -> Option<Vec<String>> {
    shlex::split(text).filter(|words| !words.is_empty())
}

/// `KEY=VALUE...`, or `KEY VALUE` with all the rest as the value.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let words = words(text)?;
    let pair = |word: &String| {
        let (key, value) = word.split_once('=')?;
        (!key.is_empty()).then(|| (key.to_owned(), value.to_owned()))
    };
    if words.first()?.contains('=') {
        return words.iter().map(pair).collect();
    }
    let (key, value) = text.split_once(char::is_whitespace)?;
    Some(vec![(key.to_owned(), value.trim().to_owned())])
}

fn is_port(text: &str) -> bool {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    port.parse::<u16>().is_ok_and(|port| port > 0) && ["tcp", "udp", "sctp"].contains(&protocol)
}

/// Applies instructions, in their order, to the `config` member of an image's configuration.
pub(super) fn apply(config: &mut Map<String, Value>, changes: &[ConfigChange]) {
    let sets_command = changes.iter().any(|change| matches!(change, ConfigChange::Cmd(_)));
    for change in changes {
        match change {
            ConfigChange::Cmd(command) => drop(config.insert("Cmd".to_owned(), json!(command))),
            ConfigChange::Entrypoint(command) => {
                config.insert("Entrypoint".to_owned(), json!(command));
                if !sets_command {
                    config.remove("Cmd");
                }
            }
            ConfigChange::Env(pairs) => {
                pairs.iter().for_each(|(key, value)| set_variable(config, key, value));
            }
            ConfigChange::Label(pairs) => {
                for (key, value) in pairs {
                    put(config, "Labels", key, json!(value));
                }
            }
            ConfigChange::Expose(ports) => {
                for port in ports {
                    let port = if port.contains('/') { port.clone() } else { format!("{port}/tcp") };
                    put(config, "ExposedPorts", &port, json!({}));
                }
            }
            ConfigChange::Volume(paths) => {
                for path in paths {
                    put(config, "Volumes", path, json!({}));
                }
            }
            ConfigChange::User(user) => drop(config.insert("User".to_owned(), json!(user))),
            ConfigChange::StopSignal(signal) => drop(config.insert("StopSignal".to_owned(), json!(signal))),
            ConfigChange::Workdir(path) => {
                let before = config.get("WorkingDir").and_then(Value::as_str).filter(|path| !path.is_empty());
                let path = std::path::Path::new(before.unwrap_or("/")).join(path);
                config.insert("WorkingDir".to_owned(), json!(path));
            }
        }
    }
}

/// Puts a member into an object of the object, which is made when it is missing or something else.
fn put(config: &mut Map<String, Value>, object: &str, key: &str, value: Value) {
    let mut members = match config.remove(object) {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    };
    members.insert(key.to_owned(), value);
    config.insert(object.to_owned(), Value::Object(members));
}

fn set_variable(config: &mut Map<String, Value>, key: &str, value: &str) {
    let stated = config.get("Env").and_then(Value::as_array).cloned().unwrap_or_default();
    let is_other = |entry: &Value| {
        let name = entry.as_str().and_then(|entry| entry.split_once('=')).map(|(name, _)| name);
        name != Some(key)
    };
    let mut variables: Vec<Value> = stated.into_iter().filter(is_other).collect();
    variables.push(json!(format!("{key}={value}")));
    config.insert("Env".to_owned(), Value::Array(variables));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ConfigChange {
        text.parse().unwrap()
    }

    fn strings(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn instructions_are_read_as_in_a_dockerfile() {
        assert_eq!(parse(r#"CMD ["a", "b c"]"#), ConfigChange::Cmd(strings(&["a", "b c"])));
        assert_eq!(parse("cmd a 'b c'"), ConfigChange::Cmd(strings(&["/bin/sh", "-c", "a 'b c'"])));
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse(r#"ENV A=1 B="2 3""#), ConfigChange::Env(vec![pair("A", "1"), pair("B", "2 3")]));
        assert_eq!(parse("ENV A b c=d"), ConfigChange::Env(vec![pair("A", "b c=d")]));
        assert_eq!(parse("EXPOSE 80 53/udp"), ConfigChange::Expose(strings(&["80", "53/udp"])));
        assert_eq!(parse(r#"VOLUME ["/a"]"#), ConfigChange::Volume(strings(&["/a"])));
        assert_eq!(parse("VOLUME /a /b"), ConfigChange::Volume(strings(&["/a", "/b"])));
        assert_eq!(parse("STOPSIGNAL SIGINT"), ConfigChange::StopSignal("SIGINT".to_owned()));
    }

    #[test]
    fn what_is_no_instruction_is_refused_with_those_that_are() {
        for text in [
            "",
            "CMD",
            "RUN x",
            "ENV",
            "ENV A",
            "ENV A=1 B",
            "EXPOSE x",
            "EXPOSE 0",
            "USER a b",
            "LABEL 'a=b",
            "STOPSIGNAL NOPE",
            "FROM x",
        ] {
            let error = text.parse::<ConfigChange>().unwrap_err().to_string();
            assert!(error.starts_with("--change "), "{error}");
        }
        assert!("RUN x".parse::<ConfigChange>().unwrap_err().to_string().contains("WORKDIR"));
    }

    #[test]
    fn changes_are_made_in_order_and_leave_the_rest() {
        let mut config = json!({"Cmd": ["old"], "Env": ["A=0", "P=1"], "WorkingDir": "/srv", "Labels": null});
        let changes = [
            "ENTRYPOINT [\"e\"]",
            "ENV A=1",
            "WORKDIR sub",
            "WORKDIR x",
            "LABEL a=b",
            "EXPOSE 80",
            "USER app",
        ];
        let changes: Vec<ConfigChange> = changes.iter().map(|text| parse(text)).collect();
        apply(config.as_object_mut().unwrap(), &changes);
        let expected = json!({"Entrypoint": ["e"], "Env": ["P=1", "A=1"], "WorkingDir": "/srv/sub/x",
            "Labels": {"a": "b"}, "ExposedPorts": {"80/tcp": {}}, "User": "app"});
        assert_eq!(config, expected);
    }

    #[test]
    fn a_new_entry_point_keeps_a_command_that_is_new_too() {
        let mut config = json!({"Cmd": ["old"]});
        apply(config.as_object_mut().unwrap(), &[parse(r#"CMD ["c"]"#), parse(r#"ENTRYPOINT ["e"]"#)]);
        assert_eq!(config, json!({"Cmd": ["c"], "Entrypoint": ["e"]}));
    }
}
