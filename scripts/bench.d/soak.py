#!/usr/bin/env python3
"""Many containers, several at a time: how fast, how many fail, and what stays behind.

use: soak.py RUNS AT-ONCE BUNDLE NAME=COMMAND...     COMMAND is the runtime with its global options

Each runtime in its turn runs /bin/true RUNS times, AT-ONCE at a time. What stays is counted by the kernel's own
lists before and after: cgroups, mounts, processes, and files below the runtime's --root. Prints a Markdown table.
"""
import os, shlex, subprocess, sys, threading, time

RUNS, AT_ONCE, BUNDLE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
RUNTIMES = {name: shlex.split(command) for name, command in (argument.split("=", 1) for argument in sys.argv[4:])}


def lists(root):
    """Everything that a container may leave, as sets that can be compared."""
    groups = {path for path, _, _ in os.walk("/sys/fs/cgroup")}
    mounts = set(open("/proc/self/mountinfo"))
    processes = {pid for pid in os.listdir("/proc") if pid.isdigit() and not kernel_thread(pid)}
    files = {path for path, _, _ in os.walk(root)} - {root}
    return groups, mounts, processes, files


def kernel_thread(pid):
    try:
        return not os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return True


def worker(runtime, name, numbers, times, failures):
    for number in numbers:
        start = time.perf_counter()
        done = subprocess.run(runtime + ["run", "--bundle", BUNDLE, f"soak-{name}-{os.getpid()}-{number}"],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
        if done.returncode:
            failures.append(done.returncode)


print(f"\n### {RUNS} × `run /bin/true`, {AT_ONCE} at a time\n")
print("| runtime | runs per second | p99 ms | failed | cgroups left | mounts left | processes left | state left |")
print("|---|---:|---:|---:|---:|---:|---:|---:|")
for name, runtime in RUNTIMES.items():
    root = runtime[runtime.index("--root") + 1]
    before = lists(root)
    times, failures = [], []
    threads = [threading.Thread(target=worker, args=(runtime, name, range(first, RUNS, AT_ONCE), times, failures))
               for first in range(AT_ONCE)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    # A cgroup or process that is being torn down is no leak.
    time.sleep(1)
    left = [len(new - old) for old, new in zip(before, lists(root))]
    p99 = sorted(times)[int(len(times) * .99)] * 1e3
    print(f"| {name} | {RUNS / took:.0f} | {p99:.1f} | {len(failures)} | " + " | ".join(map(str, left)) + " |", flush=True)
