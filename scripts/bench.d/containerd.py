"""A containerd of one's own: its root, state and socket below one directory, ended with all it started."""
import contextlib, os, pathlib, signal, subprocess, time

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
LIMIT_S = 20


@contextlib.contextmanager
def containerd(place):
    """A daemon, ended by its pid, with what it holds; its socket is `socket` below the place."""
    place = pathlib.Path(place)
    config = place / "config.toml"
    config.write_text(f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\n'
                      f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "{place}/socket"\n')
    daemon = subprocess.Popen(["containerd", "--config", config], **QUIET)
    try:
        until = time.monotonic() + LIMIT_S
        while subprocess.run(["ctr", "-a", place / "socket", "version"], **QUIET).returncode:
            if daemon.poll() is not None or time.monotonic() > until:
                raise OSError("containerd does not start")
            time.sleep(0.1)
        yield daemon
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait()


def cpu_of(pid):
    """CPU seconds of a process so far."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
