//! The seccomp filter, and the way of its listener to the agent; drawn in [`crate::sandbox::seccomp`]'s
//! `agent`. As all of [`super`], nothing here allocates, locks or formats.
use super::Child;
use crate::sandbox::report::Message;
use crate::sandbox::seccomp::Program;
use crate::sys::descriptor;
use crate::sys::flag::Flag;
use crate::sys::seccomp::install;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::{AsFd as _, AsRawFd as _};

impl Child<'_> {
    pub(super) fn install_filter(&self, program: &Program) -> Result<(), Errno> {
        if !program.listener {
            return install(program).map(drop);
        }
        let (flag, memory) = Flag::new()?;
        // The lowest number that is free is what the kernel gives next.
        let number = rustix::io::fcntl_dupfd_cloexec(&memory, 0)?.as_raw_fd();
        let message = Message::Listening(number).encode();
        descriptor::send(self.reports_to(), &message, Some(memory.as_fd()), SendFlags::empty())?;
        let listener = install(program)?.ok_or(Errno::BADF)?;
        let expected = listener.as_raw_fd() == number;
        let taken = expected && flag.wait();
        // Closing them would be calls under the filter; execve does it.
        std::mem::forget((listener, memory));
        if taken { Ok(()) } else { Err(Errno::TIMEDOUT) }
    }
}
