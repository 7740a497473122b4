//! From an instance on disk to a running container, and back to nothing.
//!
//! What was made before a failure is unmade in reverse order, by dropping: detached mounts, held ports and
//! descriptors end with their values, a container and its place on the network by [`Incarnation::end`].
use super::exit::{exit_of_adopted, exit_of_child};
use super::joining::Joining;
use super::output::{self, Output};
use super::root;
use crate::container::{self, Child, Container, CreateOptions};
use crate::network::{self, HeldPorts, Lease, Mode as NetworkMode};
use crate::sandbox::{self, NetworkAhead, Rootfs, Stdio};
use crate::service::durable::Disk;
use crate::service::log::Stream;
use crate::service::roots::make_private;
use crate::service::state::{boot_id, now};
use crate::service::{Error, Exit, Instance, State, Status};
use crate::sys::descriptor;
use oci_spec::runtime::Spec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// One run of the instance's first process.
#[derive(Debug)]
pub(super) struct Incarnation {
    container: Container,
    pub(super) pidfd: OwnedFd,
    /// Host pid of a process that is not this supervisor's child.
    adopted: Option<i32>,
    pub(super) outputs: Vec<Output>,
    /// The terminal, when it has one. Kept, or it would hang up when nobody is attached.
    pub(super) terminal: Option<OwnedFd>,
    lease: Option<Lease>,
    _ports: Option<HeldPorts>,
    begun: Instant,
}

/// How an incarnation ended.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) exit: Exit,
    pub(super) oom_kills: u64,
    pub(super) ran: Duration,
    /// What could not be cleaned up.
    pub(super) remains: Option<Error>,
}

/// How often another subnet is chosen, when that of the bridge has been taken while the instance was made.
const SUBNETS: u32 = 3;

/// Starts the instance. `state` says so before the program runs, to whoever looks then; whoever has it started sees to it
/// that this outlives the power ([`Instance::sync`]), when the program runs.
pub(super) fn launch(
    instance: &Instance,
    state: &mut State,
    stdin: Option<BorrowedFd<'_>>,
) -> Result<Incarnation, Error> {
    for _ in 1..SUBNETS {
        match launch_once(instance, state, stdin) {
            Err(Error::Network(network::Error::SubnetTaken { .. })) => {}
            launched => return launched,
        }
    }
    launch_once(instance, state, stdin)
}

fn launch_once(
    instance: &Instance,
    state: &mut State,
    stdin: Option<BorrowedFd<'_>>,
) -> Result<Incarnation, Error> {
    let containers = instance.roots().containers();
    make_private(&containers)?;
    clear_away(instance)?;
    let wish = instance.wish();
    let spec = instance.spec()?;
    let network = sandbox::network_ahead(&spec);
    let lease = lease(instance)?;
    if state.attached() != lease.as_ref() {
        // Before anything of it exists on the network, so that whoever clears away finds it.
        state.lease.clone_from(&lease);
        state.attached = lease.is_some();
        instance.write_state(state, Disk::Later)?;
    }
    write_name_files(instance, lease.as_ref())?;
    let ports = network::hold_ports(&wish.ports)?;
    let streams = Streams::open(instance, &spec, stdin)?;
    let joining = lease.as_ref().map(|lease| Joining::begin(lease, &wish.ports)).transpose();
    let created = joining.and_then(|joining| {
        let network = network.and_then(NetworkAhead::wait);
        let joining = joining.map(|joining| joining.beside(network.as_ref())).transpose()?;
        let options = CreateOptions {
            rootfs: Some(Rootfs::Tree(root::mount(instance)?)),
            network: network.map(NetworkAhead::Made),
            stdio: streams.stdio,
            console: streams.console,
            starts_it: true,
            ..CreateOptions::default()
        };
        let id = instance.container_id()?;
        Ok((Container::create(&containers, &id, instance.directory(), &spec, options)?, joining))
    });
    let ((container, child), joining) = created.inspect_err(|_| {
        // The error that led here is the one to report; the next start detaches it, too.
        let _ = lease.as_ref().map(network::detach);
    })?;
    let Child { pid, pidfd } = child;
    let mut incarnation = Incarnation {
        container,
        pidfd,
        adopted: None,
        outputs: streams.outputs,
        terminal: None,
        lease: lease.clone(),
        _ports: Some(ports),
        begun: Instant::now(),
    };
    let pid = pid.as_raw_nonzero().get();
    match incarnation.go(instance, state, pid, streams.terminal_socket, joining) {
        Ok(()) => Ok(incarnation),
        Err(error) => {
            // A process that has ended on its way is the reason for what could not be done for it.
            let error = incarnation.container.failure_so_far().err().map_or(error, Error::from);
            // What went wrong first is what is told.
            let _ = incarnation.end();
            state.pid = None;
            Err(error)
        }
    }
}

impl Incarnation {
    /// Takes over a container whose supervisor was killed; `None` when its process does not run.
    pub(super) fn adopt(instance: &Instance, state: &State) -> Result<Option<Self>, Error> {
        let Some(container) = instance.container()? else { return Ok(None) };
        if !matches!(container.status()?, container::Status::Running | container::Status::Paused) {
            return Ok(None);
        }
        let (Some(pid), Ok(pidfd)) = (container.pid(), container.pidfd()) else { return Ok(None) };
        let pid = pid.as_raw_nonzero().get();
        let outputs = if instance.wish().terminal {
            Vec::new()
        } else {
            vec![output::open(instance, Stream::Stdout)?, output::open(instance, Stream::Stderr)?]
        };
        // Another program may have taken a port meanwhile; the instance's own rules still lead to it.
        let ports = network::hold_ports(&instance.wish().ports).ok();
        let ran = state.running_for();
        let begun = Instant::now().checked_sub(ran).unwrap_or_else(Instant::now);
        let lease = state.lease.clone();
        Ok(Some(Self {
            container,
            pidfd,
            adopted: Some(pid),
            outputs,
            terminal: None,
            lease,
            _ports: ports,
            begun,
        }))
    }

    /// The steps from a created container to a running program.
    fn go(
        &mut self,
        instance: &Instance,
        state: &mut State,
        pid: i32,
        terminal_socket: Option<OwnedFd>,
        joining: Option<Joining>,
    ) -> Result<(), Error> {
        if let Some(socket) = terminal_socket {
            self.take_terminal(&socket)?;
        }
        joining.map_or(Ok(()), |joining| joining.finish(pid))?;
        // Written before the program runs: whatever is killed from here on, the next command finds it.
        state.status = Status::Running;
        state.boot_id = boot_id();
        state.pid = Some(pid);
        state.started_at = Some(now());
        state.next_start_at = None;
        state.start_error = None;
        instance.write_state(state, Disk::Later)?;
        self.begun = Instant::now();
        Ok(self.container.start()?)
    }

    fn take_terminal(&mut self, socket: &OwnedFd) -> Result<(), Error> {
        const ACTION: &str = "receive the instance's terminal";
        let received = descriptor::receive(socket.as_fd(), &mut [0; 4096]);
        let (_, master) = received.map_err(Error::system(ACTION))?;
        let master = master.ok_or(Errno::NOTTY).map_err(Error::system(ACTION))?;
        let source = rustix::io::fcntl_dupfd_cloexec(&master, 3).map_err(Error::system(ACTION))?;
        self.outputs = vec![Output { source, stream: Stream::Stdout, ended: false }];
        self.terminal = Some(master);
        Ok(())
    }

    /// Sends a signal to the first process, thawing a paused instance first, which would not see it.
    pub(super) fn signal(&self, signal: i32) -> Result<(), Error> {
        if self.container.status()? == container::Status::Paused {
            self.container.resume()?;
        }
        Ok(self.container.kill(signal, false)?)
    }

    /// Freezes all of it; one that is frozen already stays so.
    pub(super) fn pause(&self) -> Result<(), Error> {
        match self.container.status()? {
            container::Status::Paused => Ok(()),
            _ => Ok(self.container.pause()?),
        }
    }

    /// Thaws it; one that is not frozen goes on.
    pub(super) fn resume(&self) -> Result<(), Error> {
        match self.container.status()? {
            container::Status::Paused => Ok(self.container.resume()?),
            _ => Ok(()),
        }
    }

    /// Kills everything in it.
    pub(super) fn kill(&self) {
        if let Some(cgroup) = self.container.cgroup() {
            // Below, the first process takes the others of its pid namespace with it anyway.
            let _ = cgroup.kill();
        }
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, rustix::process::Signal::KILL);
    }

    /// Cleans up after the first process has ended, or ends it: kills what is left, reaps it, removes
    /// container, cgroup and network. Goes on after a failure and tells the first.
    pub(super) fn end(self) -> Outcome {
        let ran = self.begun.elapsed();
        let oom_kills = self.container.cgroup().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0);
        if !has_ended(&self.pidfd) {
            self.kill();
        }
        let exit = match self.adopted {
            None => exit_of_child(&self.pidfd),
            Some(pid) => exit_of_adopted(&self.pidfd, pid),
        };
        let deleted = self.container.delete(true).map(drop).map_err(Error::from);
        let detached = self.lease.as_ref().map_or(Ok(()), network::detach).map_err(Error::from);
        Outcome { exit, oom_kills, ran, remains: deleted.and(detached).err() }
    }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut waiting = [PollFd::new(pidfd, PollFlags::IN)];
    poll(&mut waiting, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// Removes what a killed supervisor left of an earlier incarnation, and tells of its OOM kills.
pub(super) fn clear_away(instance: &Instance) -> Result<u64, Error> {
    let Some(container) = instance.container()? else { return Ok(0) };
    let oom_kills = container.cgroup().and_then(|cgroup| cgroup.oom_kills().ok()).unwrap_or(0);
    container.delete(true)?;
    if let Some(lease) = instance.state()?.attached() {
        network::detach(lease)?;
    }
    Ok(oom_kills)
}

fn lease(instance: &Instance) -> Result<Option<Lease>, Error> {
    if instance.wish().network != NetworkMode::Bridge {
        return Ok(None);
    }
    Ok(Some(network::lease(&instance.roots().network(), instance.name().as_str())?))
}

fn write_name_files(instance: &Instance, lease: Option<&Lease>) -> Result<(), Error> {
    let wish = instance.wish();
    let hosts = network::hosts_file(&wish.hostname, lease.map(|lease| lease.address), &wish.add_hosts);
    let mut resolv_conf = network::resolv_conf(wish.network)?;
    if !wish.dns.is_empty() {
        resolv_conf = wish.dns.iter().fold(String::new(), |mut text, server| {
            // Writing to a String does not fail.
            let _ = writeln!(text, "nameserver {server}");
            text
        });
    }
    for (name, text) in
        [("hosts", hosts), ("hostname", format!("{}\n", wish.hostname)), ("resolv.conf", resolv_conf)]
    {
        let path = instance.path(name);
        write_name_file(&path, text.as_bytes(), wish.root_id()).map_err(Error::file("write", &path))?;
    }
    Ok(())
}

/// Every user of the instance reads them, and its root writes. They are written anew at each start, when nothing of the
/// instance runs.
fn write_name_file(path: &Path, text: &[u8], owner: u32) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?);
    file.write_all(text)?;
    if owner != 0 {
        rustix::fs::fchown(&file, Some(Uid::from_raw(owner)), Some(Gid::from_raw(owner)))?;
    }
    Ok(())
}

/// The streams of an incarnation: the instance's ends and the supervisor's.
struct Streams {
    stdio: Stdio,
    outputs: Vec<Output>,
    console: Option<OwnedFd>,
    terminal_socket: Option<OwnedFd>,
}

impl Streams {
    fn open(instance: &Instance, spec: &Spec, stdin: Option<BorrowedFd<'_>>) -> Result<Self, Error> {
        if instance.wish().terminal {
            let failed = Error::system("make a socket pair");
            let (ours, theirs) =
                socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
                    .map_err(failed)?;
            let (console, terminal_socket) = (Some(theirs), Some(ours));
            return Ok(Self { stdio: Stdio::default(), outputs: Vec::new(), console, terminal_socket });
        }
        let user = spec.process().as_ref().map(|process| (process.user().uid(), process.user().gid()));
        let wish = instance.wish();
        let user = user.map(|(uid, gid)| (wish.host_id(uid), wish.host_id(gid))).unwrap_or_default();
        // Ours first: a FIFO without a reader could not be opened for writing alone.
        let outputs = vec![output::open(instance, Stream::Stdout)?, output::open(instance, Stream::Stderr)?];
        let stdio = Stdio {
            stdin: Some(open_stdin(stdin)?),
            stdout: Some(output::open_for_instance(instance, Stream::Stdout, user)?),
            stderr: Some(output::open_for_instance(instance, Stream::Stderr, user)?),
        };
        Ok(Self { stdio, outputs, console: None, terminal_socket: None })
    }
}

fn open_stdin(attached: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
    let opened = match attached {
        Some(fd) => rustix::io::fcntl_dupfd_cloexec(fd, 3),
        None => rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()),
    };
    opened.map_err(Error::system("open the instance's standard input"))
}
