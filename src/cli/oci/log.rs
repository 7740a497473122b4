//! The log that engines read: one line an event, as logrus writes it for runc.
use crate::cli::failure::{one_line, sentence};
use clap::ValueEnum;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    Text,
    Json,
}

/// Where errors, warnings and, when asked for, the steps of a command go.
#[derive(Debug)]
pub(super) struct Log {
    file: Option<PathBuf>,
    format: LogFormat,
    debug: bool,
}

impl Log {
    pub(super) fn new(file: Option<PathBuf>, format: LogFormat, debug: bool) -> Self {
        Self { file, format, debug }
    }

    /// The last line of a failed command, in the log and on standard error.
    pub(super) fn error(&self, error: &anyhow::Error) {
        let message = sentence(error);
        if let Some(file) = &self.file {
            self.append(file, "error", &message);
        }
        tell!("wharf-oci: {}", one_line(&message));
    }

    /// Something the user should know that stopped nothing.
    pub(super) fn warning(&self, message: &str) {
        match &self.file {
            Some(file) => self.append(file, "warning", message),
            None => tell!("wharf-oci: warning: {}", one_line(message)),
        }
    }

    /// A step that was done; only with `--debug`.
    pub(super) fn debug(&self, message: &str) {
        match &self.file {
            _ if !self.debug => {}
            Some(file) => self.append(file, "debug", message),
            None => tell!("wharf-oci: debug: {}", one_line(message)),
        }
    }

    fn append(&self, file: &Path, level: &str, message: &str) {
        let line = render(self.format, level, message, SystemTime::now());
        let opened = OpenOptions::new().create(true).append(true).mode(0o644).open(file);
        if let Err(error) = opened.and_then(|mut file| file.write_all(line.as_bytes())) {
            tell!("wharf-oci: warning: write log {}: {error}", file.display());
        }
    }
}

fn render(format: LogFormat, level: &str, message: &str, time: SystemTime) -> String {
    let time = humantime::format_rfc3339_seconds(time);
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match format {
        LogFormat::Json => {
            format!("{{\"level\":\"{level}\",\"msg\":{},\"time\":\"{time}\"}}\n", quoted(message))
        }
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={}\n", quoted(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_have_the_form_that_engines_parse() {
        let line = |format| render(format, "error", "no \"such\"\nthing", SystemTime::UNIX_EPOCH);
        assert_eq!(
            line(LogFormat::Json),
            "{\"level\":\"error\",\"msg\":\"no \\\"such\\\"\\nthing\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            line(LogFormat::Text),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"no \\\"such\\\"\\nthing\"\n"
        );
    }
}
