//! A Plan as JSON, for people who want to see what a config becomes.
use super::identity::Identity;
use super::inputs::Rootfs;
use super::mounts::{HostTree, Source};
use super::plan::{Plan, Root};
use super::step::{Device, Limit, NewMount, Step};
use crate::sys::exec::StringArray;
use crate::sys::mount::MountAttr;
use rustix::fs::{FileType, major, minor};
use serde_json::{Map, Value, json};
use std::ffi::CStr;

impl Plan {
    /// Everything that is decided before the process exists: what is cloned and joined, which mounts the
    /// parent opens, the child's steps in their order, and the program. The form is for reading and may
    /// change with any version.
    pub fn to_json(&self) -> Value {
        let joins: Vec<Value> = self
            .joins
            .iter()
            .map(|join| json!({"type": join.kind.to_string(), "path": join.path, "at": join.at}))
            .collect();
        let maps = self.id_maps.as_ref();
        let mounts = self.sources.iter().enumerate();
        json!({
            "root": match &self.root {
                Root::New { rootfs: Rootfs::Directory(path) } => json!(path),
                Root::New { rootfs: Rootfs::Tree(_) } => json!("a detached mount"),
                Root::Joined { .. } => json!("the joined container's"),
            },
            "deputy": self.deputy.is_some(),
            "clone": clone_flags(self.clone_flags),
            "join": joins,
            "uidMap": maps.map(|maps| maps.uid.lines().collect::<Vec<_>>()),
            "gidMap": maps.map(|maps| maps.gid.lines().collect::<Vec<_>>()),
            "timeNamespace": self.new_time_namespace,
            "timeOffsets": self.time_offsets.as_ref().map(|text| text.lines().collect::<Vec<_>>()),
            "mounts": mounts.map(|(slot, source)| source_json(slot, source)).collect::<Vec<_>>(),
            "steps": self.steps.iter().map(|step| self.step(step)).collect::<Vec<_>>(),
            "program": {
                "candidates": self.program.candidates().map(text).collect::<Vec<_>>(),
                "arguments": texts(&self.program.arguments),
                "environment": texts(&self.program.environment),
            },
            "warnings": self.warnings,
        })
    }

    /// The step's name, what it acts on, and the words of its error.
    fn step(&self, step: &Step) -> Value {
        let (name, details) = details(step);
        let mut fields = Map::new();
        fields.insert("step".to_owned(), json!(name));
        if let Value::Object(details) = details {
            fields.extend(details);
        }
        fields.insert("does".to_owned(), json!(step.describe(&self.program)));
        Value::Object(fields)
    }
}

fn details(step: &Step) -> (&'static str, Value) {
    let target = |target: &super::target::Target| json!({"target": target.to_string()});
    match step {
        Step::EnterCgroup => ("enterCgroup", Value::Null),
        Step::OwnOomScoreAdj(value) => ("ownOomScoreAdj", json!({"value": text(value)})),
        Step::CallersProc => ("callersProc", Value::Null),
        Step::JoinProcess(flags) => ("joinProcess", json!({"namespaces": clone_flags(u64::from(*flags))})),
        Step::BeBorn { keep_below } => ("beBorn", json!({"closeFrom": keep_below})),
        Step::NewSession => ("newSession", Value::Null),
        Step::NewKeyring => ("newKeyring", Value::Null),
        Step::NewCgroupNamespace => ("newCgroupNamespace", Value::Null),
        Step::BecomeNamespaceRoot => ("becomeNamespaceRoot", Value::Null),
        Step::LoopbackUp => ("loopbackUp", Value::Null),
        Step::Hostname(name) => ("hostname", json!({"value": text(name)})),
        Step::Domainname(name) => ("domainname", json!({"value": text(name)})),
        Step::PrivateProc => ("privateProc", Value::Null),
        Step::JoinMounts { join } => ("joinMounts", json!({"join": join})),
        Step::IsolateMounts => ("isolateMounts", Value::Null),
        Step::CreateMount(mount) => ("createMount", new_mount(mount)),
        Step::MountInPlace { new, target, .. } => {
            ("mountInPlace", json!({"mount": new_mount(new), "target": target.to_string()}))
        }
        Step::OpenLate { slot, path, .. } => ("openLate", json!({"mount": slot, "path": path})),
        Step::PlaceRoot(path) => ("placeRoot", json!({"path": text(path)})),
        Step::AwaitHooks => ("awaitHooks", Value::Null),
        Step::PivotRoot => ("pivotRoot", Value::Null),
        Step::Chroot { moved } => ("chroot", json!({"moved": moved})),
        Step::OpenRoot => ("openRoot", Value::Null),
        Step::Attach { slot, target } => ("attach", json!({"mount": slot, "target": target.to_string()})),
        Step::AttachOrLink { slot, target } => {
            ("attachOrLink", json!({"mount": slot, "target": target.to_string()}))
        }
        Step::AttachTmpfs { slot, target, take_mode, copy_up } => {
            let target = target.to_string();
            (
                "attachTmpfs",
                json!({"mount": slot, "target": target, "takeMode": take_mode, "copyUp": copy_up}),
            )
        }
        Step::SetAttr { target, attr, recursive } => {
            let (target, attr) = (target.to_string(), attributes(attr));
            ("setAttributes", json!({"target": target, "attributes": attr, "recursive": recursive}))
        }
        Step::MakeDevice(device) => ("makeDevice", device_json(device)),
        Step::Link { target, points_to } => {
            ("link", json!({"target": target.to_string(), "pointsTo": text(points_to)}))
        }
        Step::Console { devpts, size } => ("console", json!({"devpts": devpts, "size": size})),
        Step::ExecConsole { size } => ("execConsole", json!({"size": size})),
        Step::Mask { target, .. } => ("mask", json!({"target": target.to_string()})),
        Step::ReadonlyPath(path) => ("readonlyPath", target(path)),
        Step::Sysctl { path, value } => ("sysctl", json!({"path": text(path), "value": text(value)})),
        Step::ReadonlyRoot => ("readonlyRoot", Value::Null),
        Step::RootPropagation { flag, recursive } => {
            ("rootPropagation", json!({"propagation": propagation(*flag), "recursive": recursive}))
        }
        process => process_details(process),
    }
}

/// The second half: what makes the process the container's.
fn process_details(step: &Step) -> (&'static str, Value) {
    match step {
        Step::Streams { keep_below, owner } => ("streams", json!({"closeFrom": keep_below, "owner": owner})),
        Step::RaiseRlimit(limit) => ("raiseRlimit", limit_json(limit)),
        Step::Rlimit(limit) => ("rlimit", limit_json(limit)),
        Step::OomScoreAdj(value) => ("oomScoreAdj", json!({"value": text(value)})),
        Step::ExecLabel { file, value, at } => {
            ("execLabel", json!({"file": text(file), "value": text(value), "at": at}))
        }
        Step::Affinity(cpus) => ("affinity", json!({"cpus": format!("{cpus:?}")})),
        Step::Scheduler(scheduling) => ("scheduler", json!({"value": format!("{scheduling:?}")})),
        Step::IoPriority { class, level } => ("ioPriority", json!({"class": class, "level": level})),
        Step::MemoryPolicy { mode, nodes } => {
            ("memoryPolicy", json!({"mode": mode, "nodes": format!("{nodes:?}")}))
        }
        Step::Personality(value) => ("personality", json!({"value": value})),
        Step::WorkingDirectory(path) => ("workingDirectory", json!({"target": path.to_string()})),
        Step::Umask(mask) => ("umask", json!({"value": format!("{mask:04o}")})),
        Step::Identity(identity) => ("identity", identity_json(identity)),
        Step::FindProgram => ("findProgram", Value::Null),
        Step::BeJoinable => ("beJoinable", Value::Null),
        Step::CloseOthers { keep_below } => ("closeOthers", json!({"closeFrom": keep_below})),
        Step::AwaitStart => ("awaitStart", Value::Null),
        Step::NoNewPrivileges => ("noNewPrivileges", Value::Null),
        Step::Announce => ("announce", Value::Null),
        Step::Seccomp(program) => {
            let (count, flags) = (program.instructions.len(), format!("{:#x}", program.flags));
            ("seccomp", json!({"instructions": count, "flags": flags, "listener": program.listener}))
        }
        Step::Capabilities(identity) => ("capabilities", json!(identity.capabilities.names())),
        Step::Execute => ("execute", Value::Null),
        // The first half tells all others.
        _ => ("undescribed", Value::Null),
    }
}

fn source_json(slot: usize, source: &Source) -> Value {
    match source {
        Source::Host(tree) | Source::Late(tree) => host_tree(slot, tree),
        Source::Null => json!({"mount": slot, "from": "/dev/null"}),
        Source::New => json!({"mount": slot, "from": "new"}),
    }
}

fn host_tree(slot: usize, tree: &HostTree) -> Value {
    let spread = |(flag, recursive): &(u64, bool)| {
        format!("{}{}", if *recursive { "r" } else { "" }, propagation(*flag))
    };
    json!({
        "mount": slot,
        "from": tree.source,
        "at": tree.at,
        "recursive": tree.recursive,
        "attributes": attributes(&tree.attr),
        "recursiveAttributes": attributes(&tree.recursive_attr),
        "propagation": tree.propagation.iter().map(spread).collect::<Vec<_>>(),
        "idmapped": tree.id_map.is_some(),
    })
}

fn new_mount(mount: &NewMount) -> Value {
    let data = mount.data.iter().map(|(key, value)| match value {
        Some(value) => format!("{}={}", text(key), text(value)),
        None => text(key),
    });
    let attr = MountAttr { set: mount.attr.into(), ..MountAttr::default() };
    json!({
        "mount": mount.slot,
        "type": text(&mount.fstype),
        "source": mount.source.as_deref().map(text),
        "data": data.collect::<Vec<_>>(),
        "attributes": attributes(&attr),
    })
}

fn device_json(device: &Device) -> Value {
    let kind = match FileType::from_raw_mode(device.mode) {
        FileType::BlockDevice => "b",
        FileType::Fifo => "p",
        _ => "c",
    };
    json!({
        "target": device.target.to_string(),
        "type": kind,
        "major": major(device.number),
        "minor": minor(device.number),
        "mode": format!("{:04o}", device.mode & 0o7777),
        "owner": device.owner,
    })
}

fn limit_json(limit: &Limit) -> Value {
    json!({"type": limit.name, "soft": limit.limit.current, "hard": limit.limit.maximum})
}

fn identity_json(identity: &Identity) -> Value {
    let groups: Vec<u32> = identity.groups.iter().map(|gid| gid.as_raw()).collect();
    json!({"uid": identity.uid, "gid": identity.gid, "groups": groups})
}

/// Words for what is set, and with a minus sign for what is cleared.
fn attributes(attr: &MountAttr) -> Vec<String> {
    const WORDS: [(u64, &str); 9] = [
        (0x1, "ro"),
        (0x2, "nosuid"),
        (0x4, "nodev"),
        (0x8, "noexec"),
        (0x10, "noatime"),
        (0x20, "strictatime"),
        (0x80, "nodiratime"),
        (0x0010_0000, "idmap"),
        (0x0020_0000, "nosymfollow"),
    ];
    let set = WORDS.iter().filter(|(flag, _)| attr.set & flag != 0).map(|(_, word)| (*word).to_owned());
    let cleared = WORDS.iter().filter(|(flag, _)| attr.clear & flag != 0).map(|(_, word)| format!("-{word}"));
    set.chain(cleared).collect()
}

fn propagation(flag: u64) -> &'static str {
    match flag {
        libc::MS_SHARED => "shared",
        libc::MS_SLAVE => "slave",
        libc::MS_UNBINDABLE => "unbindable",
        _ => "private",
    }
}

fn clone_flags(flags: u64) -> Vec<&'static str> {
    let kinds = [
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWNS, "mount"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWNET, "network"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWUTS, "uts"),
        (libc::CLONE_NEWCGROUP, "cgroup"),
        (libc::CLONE_NEWTIME, "time"),
    ];
    kinds.into_iter().filter(|(flag, _)| flags & *flag as u64 != 0).map(|(_, name)| name).collect()
}

fn texts(array: &StringArray) -> Vec<String> {
    array.strings().iter().map(|string| text(string)).collect()
}

fn text(string: &CStr) -> String {
    string.to_string_lossy().into_owned()
}
