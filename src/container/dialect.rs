//! Where configs and the crate oci-spec speak differently: what is right in a config and that crate does
//! not take is translated, and what no runtime may stumble over is left out with a warning.
use oci_spec::runtime::{Capability, Spec};
use serde_json::{Map, Value};

/// Translates in place; `at` is the JSON path of the process object, empty when it is the whole document.
/// Returns the warnings.
pub(super) fn translate(document: &mut Value, at: &str) -> Vec<String> {
    let process = if at.is_empty() { Some(document) } else { document.get_mut(at) };
    let Some(process) = process.and_then(Value::as_object_mut) else { return Vec::new() };
    let path = |field: &str| if at.is_empty() { field.to_owned() } else { format!("{at}.{field}") };
    if let Some(flags) = process.get_mut("scheduler").and_then(|scheduler| scheduler.get_mut("flags")) {
        translate_scheduler_flags(flags);
    }
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        tidy_cpu_lists(affinity);
    }
    let mut warnings = Vec::new();
    if let Some(sets) = process.get_mut("capabilities").and_then(Value::as_object_mut) {
        drop_unknown_capabilities(sets, &path("capabilities"), &mut warnings);
    }
    warnings
}

/// Since version 1.3 a pids limit of 0 is a limit, and none is nothing to do; to oci-spec they are the same.
/// Before, 0 was no limit, and Podman says so up to 5.4.
pub(super) fn settle_pids_limit(spec: &mut Spec, text: &[u8]) {
    let old = is_before_1_3(spec.version());
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let Some(resources) = resources else { return };
    let Some(mut pids) = (*resources.pids()).filter(|pids| pids.limit() == 0) else { return };
    let document: Value = serde_json::from_slice(text).unwrap_or_default();
    if document.pointer("/linux/resources/pids/limit").is_none() {
        resources.set_pids(None);
    } else if old {
        pids.set_limit(-1);
        resources.set_pids(Some(pids));
    }
}

fn is_before_1_3(version: &str) -> bool {
    let minor = version.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    minor.is_some_and(|minor: u64| minor < 3)
}

/// runtime-spec config.md "capabilities": a name that cannot be mapped must be logged as a warning.
fn drop_unknown_capabilities(sets: &mut Map<String, Value>, at: &str, warnings: &mut Vec<String>) {
    for (set, names) in sets {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let unknown =
                name.as_str().filter(|_| serde_json::from_value::<Capability>(name.clone()).is_err());
            if let Some(name) = unknown {
                warnings.push(format!("{at}.{set}: unknown capability {name}; ignored"));
            }
            unknown.is_none()
        });
    }
}

/// oci-spec derives these two names from its own identifiers.
fn translate_scheduler_flags(flags: &mut Value) {
    for flag in flags.as_array_mut().into_iter().flatten() {
        match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => *flag = "SCHED_RESET_ON_FORK".into(),
            Some("SCHED_FLAG_DL_OVERRUN") => *flag = "SCHED_FLAG_D_L_OVERRUN".into(),
            _ => {}
        }
    }
}

/// An empty list means the same as none, and white space and empty entries mean nothing.
fn tidy_cpu_lists(affinity: &mut Map<String, Value>) {
    affinity.retain(|_, list| {
        let Value::String(text) = list else { return true };
        let entries: Vec<&str> = text.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        *text = entries.join(",");
        !text.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn unknown_capabilities_are_warned_about_and_left_out() {
        let mut config = json!({"process": {"capabilities": {"bounding": ["CAP_KILL", "CAP_MOON"], "ambient": ["CAP_MOON"]}}});
        let mut warnings = translate(&mut config, "process");
        warnings.sort();
        assert_eq!(config["process"]["capabilities"], json!({"bounding": ["CAP_KILL"], "ambient": []}));
        assert_eq!(
            warnings,
            [
                "process.capabilities.ambient: unknown capability CAP_MOON; ignored",
                "process.capabilities.bounding: unknown capability CAP_MOON; ignored",
            ]
        );
    }

    #[test]
    fn a_pids_limit_of_zero_means_what_the_configs_version_says() {
        let settled = |version: &str, pids: serde_json::Value| {
            let text = json!({"ociVersion": version, "linux": {"resources": {"pids": pids}}}).to_string();
            let mut spec: Spec = serde_json::from_str(&text).expect("parses");
            settle_pids_limit(&mut spec, text.as_bytes());
            let resources = spec.linux().as_ref().and_then(|linux| linux.resources().clone());
            resources.and_then(|resources| resources.pids().map(|pids| pids.limit()))
        };
        assert_eq!(settled("1.3.0", json!({"limit": 0})), Some(0));
        assert_eq!(settled("1.2.1", json!({"limit": 0})), Some(-1));
        assert_eq!(settled("1.0.2-dev", json!({"limit": 0})), Some(-1));
        assert_eq!(settled("1.3.0", json!({})), None);
        assert_eq!(settled("1.2.0", json!({"limit": 7})), Some(7));
    }

    #[test]
    fn what_is_no_name_is_left_for_the_parser_to_refuse() {
        let mut process = json!({"capabilities": {"bounding": [5], "permitted": "CAP_KILL"}});
        let before = process.clone();
        assert!(translate(&mut process, "").is_empty());
        assert_eq!(process, before);
    }

    #[test]
    fn the_specifications_scheduler_flags_and_cpu_lists_are_understood() {
        let mut process = json!({
            "user": {"uid": 0, "gid": 0}, "cwd": "/",
            "scheduler": {"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"]},
            "execCPUAffinity": {"initial": "", "final": " 0-1, ,3 "}
        });
        assert!(translate(&mut process, "").is_empty());
        assert_eq!(process["execCPUAffinity"], json!({"final": "0-1,3"}));
        let process: oci_spec::runtime::Process = serde_json::from_value(process).expect("understood");
        assert_eq!(process.scheduler().as_ref().and_then(|s| s.flags().as_ref()).map(Vec::len), Some(2));
    }
}
