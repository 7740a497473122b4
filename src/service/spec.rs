//! The user's options, written into the runtime spec that the image gave.
use super::options::{Bind, Capabilities, Device, Seccomp, Tmpfs};
use super::{Error, Limits, Options, Wish, init, userns};
use crate::network::Mode;
use crate::sandbox::IdRange;
use crate::sandbox::seccomp;
use oci_spec::runtime::{
    Capability, Linux, LinuxCpu, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory,
    LinuxNamespaceType, LinuxPids, LinuxResources, Mount, Process, Spec,
};
use std::collections::HashSet;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Period of the CPU quota, microseconds; the kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;
/// Where the reaper of `--init` appears inside; /dev is a file system of the instance's own.
pub(super) const INIT_PATH: &str = "/dev/wharf-init";
/// Name files that the supervisor writes at each start, and what they cover.
pub(super) const NAME_FILES: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// Writes the options into the image's spec.
///
/// `directory` is where the instance will be.
pub(super) fn complete(
    mut spec: Spec,
    wish: &Wish,
    options: &Options,
    directory: &Path,
) -> Result<Spec, Error> {
    spec.set_hostname(Some(wish.hostname.clone()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    add_mounts(&mut mounts, options, directory, wish.userns);
    if options.init {
        mounts.push(init_mount()?);
    }
    if wish.userns.is_some() && options.network == Mode::Host {
        userns::share_sysfs(&mut mounts);
    }
    spec.set_mounts(Some(mounts));
    if let Some(root) = spec.root_mut() {
        root.set_readonly(Some(options.read_only));
    }
    let mut linux = spec.linux().clone().unwrap_or_default();
    let mut process = spec.process().clone().unwrap_or_default();
    set_process(&mut process, options);
    set_privileges(&mut process, &mut linux, options)?;
    set_network(&mut linux, options);
    if let Some(range) = wish.userns {
        userns::set(&mut linux, range);
    }
    set_resources(&mut linux, wish, options)?;
    spec.set_process(Some(process)).set_linux(Some(linux));
    Ok(spec)
}

fn set_process(process: &mut Process, options: &Options) {
    process.set_terminal(Some(options.terminal)).set_console_size(options.console_size);
    if options.terminal {
        let mut env = process.env().clone().unwrap_or_default();
        if !env.iter().any(|entry| entry.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
            process.set_env(Some(env));
        }
    }
    if options.init {
        let mut args = vec![INIT_PATH.to_owned(), init::COMMAND.to_owned()];
        args.extend(process.args().clone().unwrap_or_default());
        process.set_args(Some(args));
    }
    if !options.ulimits.is_empty() {
        process.set_rlimits(Some(options.ulimits.clone()));
    }
    process.set_no_new_privileges(Some(!options.may_gain_privileges));
}

/// Capabilities, and the system call filter that follows from them.
fn set_privileges(process: &mut Process, linux: &mut Linux, options: &Options) -> Result<(), Error> {
    let mut sets = process.capabilities().clone().unwrap_or_default();
    let before = sets.bounding().clone().unwrap_or_default();
    let held = held_capabilities(&before, &options.cap_add, &options.cap_drop);
    let changed = held != before;
    if changed {
        sets.set_bounding(Some(held.clone()));
        // A service that is not root starts without effective capabilities, whatever root would have.
        if process.user().uid() == 0 {
            sets.set_permitted(Some(held.clone())).set_effective(Some(held.clone()));
        }
        process.set_capabilities(Some(sets));
    }
    match &options.seccomp {
        Seccomp::Default if changed => {
            let names: Vec<String> = held.iter().map(|capability| format!("CAP_{capability}")).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            linux.set_seccomp(Some(seccomp::default_profile(&names)));
        }
        Seccomp::Default => {}
        Seccomp::Unconfined => {
            linux.set_seccomp(None);
        }
        Seccomp::Profile(profile) => {
            seccomp::compile(profile)
                .map_err(|error| Error::option("--security-opt seccomp", error.to_string()))?;
            linux.set_seccomp(Some((**profile).clone()));
        }
    }
    Ok(())
}

fn held_capabilities(
    before: &HashSet<Capability>,
    add: &Capabilities,
    drop: &Capabilities,
) -> HashSet<Capability> {
    let every = || caps::all().into_iter().filter_map(|c| c.to_string().strip_prefix("CAP_")?.parse().ok());
    let base: HashSet<Capability> = match (add.all, drop.all) {
        (true, _) => every().collect(),
        (false, true) => HashSet::new(),
        (false, false) => before.clone(),
    };
    // A name counts over ALL: `--cap-drop ALL --cap-add CHOWN` leaves one.
    let kept = base.into_iter().filter(|capability| !drop.named.contains(capability));
    kept.chain(add.named.iter().copied().filter(|capability| !drop.named.contains(capability))).collect()
}

fn set_network(linux: &mut Linux, options: &Options) {
    if options.network == Mode::Host {
        let namespaces = linux.namespaces().clone().unwrap_or_default();
        let kept = namespaces.into_iter().filter(|namespace| namespace.typ() != LinuxNamespaceType::Network);
        linux.set_namespaces(Some(kept.collect()));
        // The defaults belong to a network namespace, and the host's is not ours to change.
        linux.set_sysctl(None);
    }
    if !options.sysctls.is_empty() {
        let mut sysctls = linux.sysctl().clone().unwrap_or_default();
        sysctls.extend(options.sysctls.clone());
        linux.set_sysctl(Some(sysctls));
    }
}

fn set_resources(linux: &mut Linux, wish: &Wish, options: &Options) -> Result<(), Error> {
    let mut resources = linux.resources().clone().unwrap_or_default();
    let limits = &wish.limits;
    set_memory(&mut resources, limits);
    set_cpu(&mut resources, limits);
    if let Some(most) = limits.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(i64::from(most));
        resources.set_pids(Some(pids));
    }
    add_devices(linux, &mut resources, &options.devices)?;
    linux.set_resources(Some(resources)).set_cgroups_path(Some(PathBuf::from(format!("/wharf/{}", wish.id))));
    Ok(())
}

fn set_memory(resources: &mut LinuxResources, limits: &Limits) {
    if limits.memory_bytes.is_none() && limits.memory_reservation_bytes.is_none() {
        return;
    }
    let bytes = |value: Option<u64>| value.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(bytes(limits.memory_bytes))
        .set_swap(bytes(limits.memory_swap_bytes))
        .set_reservation(bytes(limits.memory_reservation_bytes));
    resources.set_memory(Some(memory));
}

fn set_cpu(resources: &mut LinuxResources, limits: &Limits) {
    let mut cpu = LinuxCpu::default();
    if let Some(millis) = limits.cpu_millis {
        let quota = millis.saturating_mul(CPU_PERIOD_US) / 1000;
        cpu.set_quota(i64::try_from(quota).ok()).set_period(Some(CPU_PERIOD_US));
    }
    cpu.set_shares(limits.cpu_shares).set_cpus(limits.cpuset_cpus.clone());
    if cpu != LinuxCpu::default() {
        resources.set_cpu(Some(cpu));
    }
}

fn add_devices(linux: &mut Linux, resources: &mut LinuxResources, devices: &[Device]) -> Result<(), Error> {
    let mut nodes = linux.devices().clone().unwrap_or_default();
    let mut rules = resources.devices().clone().unwrap_or_default();
    for device in devices {
        let (node, rule) = device_of_host(device)?;
        nodes.push(node);
        rules.push(rule);
    }
    if !devices.is_empty() {
        linux.set_devices(Some(nodes));
        resources.set_devices(Some(rules));
    }
    Ok(())
}

fn device_of_host(device: &Device) -> Result<(LinuxDevice, LinuxDeviceCgroup), Error> {
    let data = std::fs::metadata(&device.source).map_err(Error::file("find device", &device.source))?;
    let typ = match data.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => {
            let reason = format!("{} is not a device", device.source.display());
            return Err(Error::option("--device", reason));
        }
    };
    let major = i64::from(rustix::fs::major(data.rdev()));
    let minor = i64::from(rustix::fs::minor(data.rdev()));
    let mut node = LinuxDevice::default();
    node.set_path(device.destination.clone())
        .set_typ(typ)
        .set_major(major)
        .set_minor(minor)
        .set_file_mode(Some(data.mode() & 0o777))
        .set_uid(Some(data.uid()))
        .set_gid(Some(data.gid()));
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(true)
        .set_typ(Some(typ))
        .set_major(Some(major))
        .set_minor(Some(minor))
        .set_access(Some(device.access.clone()));
    Ok((node, rule))
}

/// A user's mount takes the place of a default one, and the outer comes before the inner.
fn add_mounts(mounts: &mut Vec<Mount>, options: &Options, directory: &Path, ids: Option<IdRange>) {
    let taken = user_destinations(options);
    let access = if options.read_only { "ro" } else { "rw" };
    let name_files = NAME_FILES.iter().map(|(file, destination)| {
        mount(Path::new(destination), "bind", &directory.join(file), vec!["bind", "private", access])
    });
    let mut wanted: Vec<Mount> = name_files.filter(|mount| !taken.contains(mount.destination())).collect();
    wanted.extend(options.tmpfs.iter().map(tmpfs_mount));
    wanted.extend(options.binds.iter().map(|bind| bind_mount(bind, ids)));
    wanted.sort_by_key(|mount| mount.destination().components().count());
    mounts.retain(|mount| !taken.contains(mount.destination()));
    mounts.append(&mut wanted);
}

fn user_destinations(options: &Options) -> Vec<PathBuf> {
    let binds = options.binds.iter().map(|bind| bind.destination.clone());
    binds.chain(options.tmpfs.iter().map(|tmpfs| tmpfs.destination.clone())).collect()
}

fn bind_mount(bind: &Bind, ids: Option<IdRange>) -> Mount {
    let mut options = vec!["rbind", bind.propagation.as_deref().unwrap_or("rprivate")];
    if bind.read_only {
        // Recursive: a file system mounted below the source is not writable either.
        options.push("rro");
    }
    let Some(ids) = ids.filter(|_| !bind.raw_ids) else {
        return mount(&bind.destination, "bind", &bind.source, options);
    };
    // What is written to the host belongs to the same ids as without a user namespace.
    options.push("ridmap");
    let mut mount = mount(&bind.destination, "bind", &bind.source, options);
    mount.set_uid_mappings(Some(ids.mappings())).set_gid_mappings(Some(ids.mappings()));
    mount
}

fn tmpfs_mount(tmpfs: &Tmpfs) -> Mount {
    let options = tmpfs.options.iter().map(String::as_str).collect();
    mount(&tmpfs.destination, "tmpfs", Path::new("tmpfs"), options)
}

/// This program, read-only: a process inside that reopens process 1's executable for writing is refused.
fn init_mount() -> Result<Mount, Error> {
    let program = std::env::current_exe().map_err(Error::system("find the program's own executable"))?;
    Ok(mount(Path::new(INIT_PATH), "bind", &program, vec!["bind", "private", "ro", "nosuid", "nodev"]))
}

fn mount(destination: &Path, typ: &str, source: &Path, options: Vec<&str>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.to_owned())
        .set_typ(Some(typ.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.into_iter().map(str::to_owned).collect()));
    mount
}
