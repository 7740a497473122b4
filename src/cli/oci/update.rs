//! `wharf-oci update`
use super::context::Context;
use crate::container::{Container, ContainerId, parse_resources};
use anyhow::{Context as _, bail};
use clap::Args;
use oci_spec::runtime::{
    LinuxBlockIoBuilder, LinuxCpu, LinuxIntelRdt, LinuxMemory, LinuxPidsBuilder, LinuxResources,
};
use std::io::Read as _;

/// Change the resource limits of a container; what is not given stays as it is
#[derive(Debug, Args)]
pub(super) struct Update {
    /// The container
    #[arg(value_name = "CONTAINER-ID")]
    id: ContainerId,
    /// Read linux.resources as JSON from this file, or from standard input with `-`
    #[arg(long, short, value_name = "FILE", conflicts_with = "limits")]
    resources: Option<String>,
    #[command(flatten)]
    limits: Limits,
}

/// One option for each limit.
#[derive(Debug, Args)]
#[group(id = "limits", multiple = true)]
struct Limits {
    /// Weight of block I/O against others, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Period of the CPU quota, microseconds
    #[arg(long, value_name = "US")]
    cpu_period: Option<u64>,
    /// CPU time in each period, microseconds; -1 is no limit
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// CPU time beyond the quota that may be saved up, microseconds
    #[arg(long, value_name = "US")]
    cpu_burst: Option<u64>,
    /// Share of the CPU against others; 1024 is the default
    #[arg(long, value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// Period of the realtime quota, microseconds
    #[arg(long, value_name = "US")]
    cpu_rt_period: Option<u64>,
    /// Realtime CPU time in each period, microseconds
    #[arg(long, value_name = "US", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// Run only when nobody else wants the CPU: 1, or 0 for no more
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    cpu_idle: Option<i64>,
    /// CPUs it may run on, such as 0-2,7
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory, bytes or with K, M or G; -1 is no limit
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_negative_numbers = true)]
    memory: Option<i64>,
    /// Memory that is reclaimed last
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_negative_numbers = true)]
    memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is no limit
    #[arg(long, value_name = "BYTES", value_parser = bytes, allow_negative_numbers = true)]
    memory_swap: Option<i64>,
    /// Kernel memory: the kernel has no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    kernel_memory: Option<String>,
    /// Kernel memory for TCP buffers: the kernel has no such limit any more
    #[arg(long, value_name = "BYTES", hide = true, allow_negative_numbers = true)]
    kernel_memory_tcp: Option<String>,
    /// Processes and threads; -1 is no limit
    #[arg(long, value_name = "COUNT", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Schema of the L3 cache for the container's own class of service, such as L3:0=f;1=f0
    #[arg(long, value_name = "SCHEMA")]
    l3_cache_schema: Option<String>,
    /// Schema of the memory bandwidth for the container's own class of service, such as MB:0=50
    #[arg(long, value_name = "SCHEMA")]
    mem_bw_schema: Option<String>,
}

impl Update {
    pub(super) fn run(&self, context: &Context) -> anyhow::Result<u8> {
        let container = Container::load(context.root()?, &self.id)?;
        let resources = match &self.resources {
            Some(file) => read(file)?,
            None => self.limits.resources()?,
        };
        let rdt = self.limits.rdt();
        let warnings = container.update(&resources, rdt.as_ref())?;
        warnings.iter().for_each(|warning| context.log.warning(warning));
        Ok(0)
    }
}

fn read(file: &str) -> anyhow::Result<LinuxResources> {
    let mut text = Vec::new();
    let read = match file {
        "-" => std::io::stdin().lock().read_to_end(&mut text),
        path => std::fs::File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    };
    read.with_context(|| format!("read --resources {file}"))?;
    Ok(parse_resources(if file == "-" { "standard input" } else { file }, &text)?)
}

impl Limits {
    fn resources(&self) -> anyhow::Result<LinuxResources> {
        if self.kernel_memory.is_some() || self.kernel_memory_tcp.is_some() {
            bail!(
                "--kernel-memory and --kernel-memory-tcp: the kernel has no such limits any more; leave them out"
            );
        }
        let mut resources = LinuxResources::default();
        resources.set_devices(None).set_cpu(Some(self.cpu())).set_memory(Some(self.memory()));
        if let Some(limit) = self.pids_limit {
            resources.set_pids(Some(LinuxPidsBuilder::default().limit(limit).build()?));
        }
        if let Some(weight) = self.blkio_weight {
            resources.set_block_io(Some(LinuxBlockIoBuilder::default().weight(weight).build()?));
        }
        Ok(resources)
    }

    fn rdt(&self) -> Option<LinuxIntelRdt> {
        if self.l3_cache_schema.is_none() && self.mem_bw_schema.is_none() {
            return None;
        }
        let mut rdt = LinuxIntelRdt::default();
        rdt.set_l3_cache_schema(self.l3_cache_schema.clone()).set_mem_bw_schema(self.mem_bw_schema.clone());
        Some(rdt)
    }

    fn cpu(&self) -> LinuxCpu {
        let mut cpu = LinuxCpu::default();
        cpu.set_period(self.cpu_period).set_quota(self.cpu_quota).set_burst(self.cpu_burst);
        cpu.set_shares(self.cpu_share).set_idle(self.cpu_idle);
        cpu.set_realtime_period(self.cpu_rt_period).set_realtime_runtime(self.cpu_rt_runtime);
        cpu.set_cpus(self.cpuset_cpus.clone()).set_mems(self.cpuset_mems.clone());
        cpu
    }

    fn memory(&self) -> LinuxMemory {
        let mut memory = LinuxMemory::default();
        memory.set_limit(self.memory).set_reservation(self.memory_reservation).set_swap(self.memory_swap);
        memory
    }
}

fn bytes(text: &str) -> anyhow::Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let bytes = parse_size::Config::new().with_binary().parse_size(text).ok();
    let bytes = bytes.and_then(|bytes| i64::try_from(bytes).ok());
    bytes.with_context(|| format!("{text:?} is not a size; write bytes, a number with K, M or G, or -1"))
}
