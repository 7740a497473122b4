#!/usr/bin/env python3
"""Interleaved latency of several runtimes, and their system calls.

use: compare.py ROUNDS BUNDLE NAME=COMMAND...     COMMAND is the runtime with its global options

Every round runs every runtime once, in an order that turns by one each round, so that drift of the
machine and a neighbour's wake hit all alike. Three cases: `run` (run /bin/true to its end), `lifecycle`
(create, start, wait until stopped, delete) and `exec` (exec /bin/true in a running container). The command
named `floor` knows only `run`. A step that fails or takes over 5 s makes the round `bad` and leaves it out.

Prints a Markdown table for each case.
"""
import json, os, shlex, signal, statistics, subprocess, sys, tempfile, time

ROUNDS, BUNDLE = int(sys.argv[1]), sys.argv[2]
RUNTIMES = {name: shlex.split(command) for name, command in (argument.split("=", 1) for argument in sys.argv[3:])}
WARM_UP = 5
NULL = os.open("/dev/null", os.O_RDWR)


class Late(Exception):
    pass


def late(*_):
    raise Late


def step(command):
    """Runs a command without a shell; its status and CPU seconds, those of its children included."""
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, NULL, fd) for fd in (0, 1, 2)])
    signal.alarm(5)
    try:
        _, status, usage = os.wait4(pid, 0)
    except Late:
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
        status = status or 1
    finally:
        signal.alarm(0)
    return status, usage.ru_utime + usage.ru_stime


def steps(name, case, container):
    runtime = RUNTIMES[name]
    if name == "floor":
        return [runtime + [BUNDLE + "/rootfs"]]
    if case == "run":
        return [runtime + ["run", "--bundle", BUNDLE, container]]
    if case == "lifecycle":
        return [runtime + ["create", "--bundle", BUNDLE, container], runtime + ["start", container],
                runtime + ["delete", "--force", container]]
    return [runtime + ["exec", "standing-" + name, "/bin/true"]]


def measure(case, names):
    times, cpus, bad = ({name: [] for name in names} for _ in range(3))
    for number in range(ROUNDS + WARM_UP):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            commands = steps(name, case, f"{case}-{name}-{os.getpid()}-{number}")
            start, cpu, failed = time.perf_counter(), 0, 0
            for command in commands:
                status, used = step(command)
                cpu, failed = cpu + used, failed or status
            took = time.perf_counter() - start
            if failed:
                bad[name].append(failed)
            elif number >= WARM_UP:
                times[name].append(took * 1e3)
                cpus[name].append(cpu * 1e3)
    return times, cpus, bad


def system_calls(name):
    """Calls of all processes of one `run`, by `strace -c -f`. (Behind `create` it would follow the container on.)"""
    [command] = steps(name, "run", f"strace-{name}-{os.getpid()}")
    with tempfile.NamedTemporaryFile("r") as report:
        subprocess.run(["strace", "-f", "-c", "-o", report.name] + command, stdin=NULL, stdout=NULL, stderr=NULL, timeout=30)
        # The line of totals: % time, seconds, usecs/call, calls, [errors,] "total".
        return next((line.split()[3] for line in report if line.rstrip().endswith(" total")), "")


def table(case, title, names):
    times, cpus, bad = measure(case, names)
    floor, crun = (statistics.median(times.get(peer) or [float("nan")]) for peer in ("floor", "crun"))
    print(f"\n### {title}\n")
    print("| runtime | median ms | min | p95 | CPU ms | × floor | × crun | system calls | failed |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in names:
        taken = sorted(times[name])
        if not taken:
            print(f"| {name} | every round failed | | | | | | | {len(bad[name])} |")
            continue
        middle = statistics.median(taken)
        ratio = lambda other: "" if other != other else f"{middle / other:.2f}"
        print(f"| {name} | {middle:.2f} | {taken[0]:.2f} | {taken[int(len(taken) * .95)]:.2f} | {statistics.median(cpus[name]):.2f} "
              f"| {ratio(floor)} | {ratio(crun)} | {system_calls(name) if case == 'run' else ''} | {len(bad[name])} |", flush=True)


def standing(verb):
    """Starts or removes the container that `exec` enters, one for each runtime."""
    for name, runtime in RUNTIMES.items():
        if name == "floor":
            continue
        if verb == "start":
            config = json.load(open(BUNDLE + "/config.json"))
            config["process"]["args"] = ["/bin/sleep", "1000"]
            own = f"{BUNDLE}-{name}"
            os.makedirs(own, exist_ok=True)
            if not os.path.lexists(own + "/rootfs"):
                os.symlink(BUNDLE + "/rootfs", own + "/rootfs")
            config["root"]["path"] = BUNDLE + "/rootfs"
            json.dump(config, open(own + "/config.json", "w"))
            for command in (["create", "--bundle", own, "standing-" + name], ["start", "standing-" + name]):
                step(runtime + command)
        else:
            step(runtime + ["delete", "--force", "standing-" + name])


signal.signal(signal.SIGALRM, late)
names = list(RUNTIMES)
table("run", "`run /bin/true`, to its end", names)
runtimes = [name for name in names if name != "floor"]
table("lifecycle", "`create`, `start`, `delete --force`", runtimes)
standing("start")
try:
    table("exec", "`exec /bin/true` in a running container", runtimes)
finally:
    standing("delete")
