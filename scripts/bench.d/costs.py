#!/usr/bin/env python3
"""What a call costs beside time: system calls, page faults, memory, bytes on disk. use: see contest.py"""
import os, pathlib, re, statistics, subprocess, tempfile

import contest
import turns

USAGE_ROUNDS = 15
PSS_ROUNDS = 5


def system_calls(command):
    """Calls of all processes of a command, by `strace -c -f`."""
    # Not of the first one, which makes directories that stay.
    turns.step(command)
    with tempfile.NamedTemporaryFile("r") as report:
        turns.step(["/usr/bin/strace", "-f", "-c", "-o", report.name] + command)
        # The line of totals: % time, seconds, usecs/call, calls, [errors,] "total".
        return next(int(line.split()[3]) for line in report if line.rstrip().endswith(" total"))


def usage(command):
    """Page faults and peak KiB of a command and those it waited for, by wait4(2). A small program starts it, for the
    kernel counts the memory of whoever forked as the child's."""
    with tempfile.NamedTemporaryFile("r") as report:
        turns.step(["/usr/bin/time", "-o", report.name, "-f", "%R %F %M"] + command)
        minor, major, peak = map(int, report.read().split()[-3:])
        return minor + major, peak


def pss(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss: *(\d+)", text, re.M)[1])


def attempt(row, measure):
    """Adds to a row what could be measured."""
    try:
        row.update(measure())
    except (turns.Failed, OSError, ValueError, StopIteration, subprocess.SubprocessError) as failure:
        row.setdefault("trouble", []).append(str(failure) or type(failure).__name__)


def waiting_init(bench, runtime, bundle):
    """PSS of what waits after `create`."""
    found = []
    for number in range(PSS_ROUNDS):
        name, file = bench.id("waiting", runtime.name, number), bench.work / f"{runtime.name}.pid"
        turns.step(runtime.call("create", "--bundle", bundle, "--pid-file", file, name))
        try:
            found.append(pss(int(file.read_text())))
        finally:
            turns.quietly(runtime.call("delete", "--force", name))
    return {"waiting": statistics.median(found)}


def libraries(program):
    """Bytes of the shared libraries that a program loads."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    return sum(os.stat(path).st_size for path in re.findall(r"(/\S+) \(0x", listed))


def rows_of(bench):
    plain = bench.bundle("default")
    lasting = bench.bundle("default", "/bin/sleep", "10000")
    contestants = [(runtime.name, runtime) for runtime in bench.runtimes]
    for name, runtime in [("floor", None), *contestants]:
        row = {"name": name}

        def run(bundle, word, runtime=runtime):
            if runtime is None:
                return [bench.inputs["floor"], str(bundle / "rootfs"), bench.id(word)]
            return runtime.call("run", "--bundle", bundle, bench.id(word, runtime.name))

        def faults(run=run):
            samples = [usage(run(plain, f"usage-{number}")) for number in range(USAGE_ROUNDS)]
            return dict(zip(("faults", "peak"), map(statistics.median, zip(*samples))))
        program = bench.inputs["floor"] if runtime is None else runtime.command[0]
        attempt(row, lambda: {"bytes": os.stat(program).st_size, "libraries": libraries(program)})
        attempt(row, lambda: {"calls": system_calls(run(plain, "calls"))})
        attempt(row, faults)
        if runtime:
            attempt(row, lambda: {"calls_docker": system_calls(run(bench.bundle("docker"), "calls-docker"))})
            standing = bench.id("standing", name)
            turns.quietly(runtime.call("create", "--bundle", lasting, standing))
            turns.quietly(runtime.call("start", standing))
            attempt(row, lambda: {"calls_exec": system_calls(runtime.call("exec", standing, "/bin/true"))})
            attempt(row, lambda: {"calls_state": system_calls(runtime.call("state", standing))})
            turns.quietly(runtime.call("delete", "--force", standing))
            attempt(row, lambda: waiting_init(bench, runtime, lasting))
        yield row


def measure(bench):
    rows = list(rows_of(bench)) + [{"name": name, "why": why} for name, why in bench.missing.items()]
    trouble = "".join(f" {row['name']}: {'; '.join(dict.fromkeys(row['trouble']))}." for row in rows if "trouble" in row)
    return [
        {"key": "calls", "title": "System calls", "rows": rows,
         "note": "Of all processes together, the container's program included, by `strace -c -f`." + trouble,
         "columns": [["calls", "`run`", "d"], ["calls_docker", "`run`, Docker's config", "d"], ["calls_exec", "`exec`", "d"],
                     ["calls_state", "`state`", "d"]]},
        {"key": "memory", "title": "Memory and bytes", "rows": rows,
         "note": "Page faults and the peak of resident memory of one `run`, by wait4(2), medians; PSS of the process that waits after "
                 "`create`; the program's file and the shared libraries it loads.",
         "columns": [["faults", "page faults", ".0f"], ["peak", "peak KiB", ".0f"], ["waiting", "waiting after `create`, PSS KiB", ".0f"],
                     ["bytes", "program, bytes", ",d"], ["libraries", "libraries, bytes", ",d"]]},
    ]


if __name__ == "__main__":
    contest.part(measure)
