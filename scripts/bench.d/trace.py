"""The kernel's own record of what processes do: system calls, switches, faults, ends; from a trace instance that
nobody else uses. Needs tracefs at `place`, in a mount namespace of one's own."""
import collections, contextlib, os, pathlib, re, statistics, subprocess

EVENTS = ("raw_syscalls/sys_enter", "raw_syscalls/sys_exit", "sched/sched_process_exec", "sched/sched_process_exit",
          "sched/sched_process_fork", "sched/sched_switch", "exceptions/page_fault_user")
LINE = re.compile(r"\s*.{1,16}-(\d+) +\[\d+\] \S+ +([\d.]+): (\w+): (.*)")
# Younger than the headers of some hosts.
YOUNG = {467: "open_tree_attr", 468: "file_getattr", 469: "file_setattr"}


def names():
    """Numbers of system calls to their names, as this host's compiler has them."""
    listed = subprocess.run(["gcc", "-dM", "-E", "-"], input="#include <asm/unistd.h>\n", capture_output=True, text=True, check=True).stdout
    found = {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", listed)}
    return YOUNG | found


class Instance:
    """A trace instance of this process and of what it starts."""

    def __init__(self, place):
        self.path = pathlib.Path(place) / "instances" / f"wharf-bench-{os.getpid()}"

    def write(self, file, value):
        (self.path / file).write_text(str(value))

    @contextlib.contextmanager
    def recording(self):
        """Yields a function that returns the lines recorded so far and forgets them."""
        self.path.mkdir()
        try:
            self.write("buffer_size_kb", 16384)
            self.write("trace_clock", "mono")
            self.write("options/event-fork", 1)
            self.write("set_event_pid", os.getpid())
            for event in EVENTS:
                self.write(f"events/{event}/enable", 1)
            yield self.take
        finally:
            with contextlib.suppress(OSError):
                self.write("tracing_on", 0)
            self.path.rmdir()

    def take(self):
        # Or what reads would be recorded while it reads.
        self.write("tracing_on", 0)
        text = (self.path / "trace").read_text(errors="replace")
        self.write("trace", "")
        self.write("tracing_on", 1)
        return text.splitlines()


Span = collections.namedtuple("Span", "name start length waiting faults before")
Span.__doc__ = """One system call of a process: microseconds since the run began, how many it took, how many of them the process
did not run, the page faults in the code before it, and how many microseconds that code ran."""


def spans_of(lines, pid, calls):
    """System calls of the process `pid` and of each thread and process that it makes, from the process's first execve on."""
    events, began = {pid: []}, None
    for line in lines:
        match = LINE.match(line)
        if not match:
            continue
        who, when, event, rest = int(match[1]), float(match[2]) * 1e6, match[3], match[4]
        if event == "sched_process_fork" and who == pid:
            events[int(re.search(r"child_pid=(\d+)", rest)[1])] = []
        if event == "sched_switch":
            left, next_ = re.search(r"prev_pid=(\d+).*next_pid=(\d+)", rest).groups()
            for other, kind in ((int(left), "off"), (int(next_), "on")):
                if other in events:
                    events[other].append((when, kind, rest))
        elif who in events:
            events[who].append((when, event, rest))
            if began is None and who == pid and event == "sys_enter" and calls.get(int(rest.split()[1])) == "execve":
                began = when
    return [list(walk(found, began, calls)) for found in events.values() if began is not None]


def walk(events, began, calls):
    entered = off_since = None
    left, waiting, faults, idle = None, 0, 0, 0
    for when, event, rest in events:
        if when < began:
            continue
        left = when if left is None else left
        if event == "off":
            off_since = when
        elif event == "on" and off_since is not None:
            waiting += (when - off_since) * (entered is not None)
            idle += (when - off_since) * (entered is None)
            off_since = None
        elif event == "page_fault_user" and entered is None:
            faults += 1
        elif event == "sys_enter":
            entered = (calls.get(int(rest.split()[1]), rest.split()[1]), when, faults, max(when - left - idle, 0))
            waiting = faults = idle = 0
        elif event in ("sys_exit", "sched_process_exit") and entered:
            name, start, before_faults, before = entered
            yield Span(name, start - began, when - start, waiting, before_faults, before)
            entered, left, waiting, faults, idle = None, when, 0, 0, 0


def median(runs):
    """One lane of many: call by call the medians of the runs that made the usual number of calls."""
    usual = statistics.mode(len(run) for run in runs)
    runs = [run for run in runs if len(run) == usual]
    merged = []
    for calls in zip(*runs):
        merged.append(Span(statistics.mode(call.name for call in calls),
                           *(statistics.median(values) for values in zip(*(call[1:] for call in calls)))))
    return merged, len(runs)
