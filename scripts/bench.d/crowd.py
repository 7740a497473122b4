#!/usr/bin/env python3
"""Many containers, one, several and many at a time: how fast, how many fail, what stays behind. use: see contest.py

Each runtime runs /bin/true in blocks that take turns. What stays is counted by the kernel's own lists before and
after: cgroups, mounts, processes, and what is below the runtime's --root.
"""
import os, signal, time

import contest
import tables
import turns

AT_ONCE = (1, 8, 64)
BLOCKS = 4
COLUMNS = [["median", "runs per second", ".0f"], ["p99", "p99 ms", ".1f"], *tables.RATIOS, *tables.FAILED,
           ["cgroups", "cgroups left", "d"], ["mounts", "mounts left", "d"], ["processes", "processes left", "d"],
           ["state", "state left", "d"]]


def kernel_thread(pid):
    try:
        return not os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return True


def lists(bench, root):
    """Everything that a container of ours may leave, as sets that can be compared."""
    return {"cgroups": {path for path, _, _ in os.walk("/sys/fs/cgroup") if bench.prefix in path},
            "mounts": set(open("/proc/self/mountinfo")),
            "processes": {pid for pid in os.listdir("/proc") if pid.isdigit() and not kernel_thread(pid)},
            "state": {path for path, _, _ in os.walk(root)} - {str(root)} if root else set()}


def crowd(commands, at_once):
    """Runs commands, so many at a time; wall seconds to the last that ended, of each that succeeded, how many failed, and how many of
    these were stopped when none had ended for a while."""
    waiting, running, times, failed, stopped = iter(commands), {}, [], 0, 0
    began = last = time.perf_counter()

    def fill():
        while len(running) < at_once and (command := next(waiting, None)):
            start = time.perf_counter()
            running[turns.spawn(command)] = start
    signal.signal(signal.SIGALRM, turns.late)
    try:
        fill()
        while running:
            signal.alarm(turns.LIMIT_S)
            pid, status = os.wait()
            signal.alarm(0)
            last, start = time.perf_counter(), running.pop(pid)
            if status:
                failed += 1
            else:
                times.append(last - start)
            fill()
    except turns.Late:
        stopped = len(running)
        for pid in running:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    return last - began, times, failed + stopped, stopped


def commands_of(bench, bundle, runtime, words, count):
    """Commands of `count` runs; the yardstick is a runtime of None."""
    if runtime is None:
        return [[bench.inputs["floor"], str(bundle / "rootfs"), bench.id("floor", *words, number)] for number in range(count)]
    return [runtime.call("run", "--bundle", bundle, bench.id("crowd", runtime.name, *words, number)) for number in range(count)]


class Score:
    """What the blocks of one contestant came to."""

    def __init__(self):
        self.took, self.times, self.failed, self.stopped, self.left = 0, [], 0, 0, {}

    def add(self, seconds, times, failed, stopped, new):
        self.took, self.failed, self.stopped = self.took + seconds, self.failed + failed, self.stopped + stopped
        self.times += times
        self.left = {kind: number + self.left.get(kind, 0) for kind, number in new.items()}

    def row(self, name):
        row = {"name": name, "failed": self.failed, **self.left}
        if self.times:
            row |= {"median": len(self.times) / self.took, "p99": sorted(self.times)[int(len(self.times) * .99)] * 1e3}
        return row


def measure_at(bench, bundle, at_once, able):
    count = max(bench.rounds * 4 // BLOCKS, at_once)
    scores = {name: Score() for name in able}
    for block in range(BLOCKS):
        first = block % len(able)
        for name in (*list(able)[first:], *list(able)[:first]):
            if scores[name].stopped:
                continue
            root = able[name] and bench.work / f"state-{name}"
            before = lists(bench, root)
            result = crowd(commands_of(bench, bundle, able[name], (at_once, block), count), at_once)
            # A cgroup or process that is being torn down is no leak.
            time.sleep(.3)
            after = lists(bench, root)
            scores[name].add(*result, {kind: len(after[kind] - before[kind]) for kind in after})
    stopped = "".join(f" {name}: {score.stopped} did not end within {turns.LIMIT_S} s and had to be killed; later blocks were left out."
                      for name, score in scores.items() if score.stopped)
    return {"key": f"crowd-{at_once}", "title": f"{count * BLOCKS} × `run /bin/true`, {at_once} at a time",
            "note": "Ratios are of runs per second." + stopped, "columns": COLUMNS,
            "rows": tables.ratios([score.row(name) for name, score in scores.items()])}


def measure(bench):
    bundle = bench.bundle("default")
    able, unable = {"floor": None}, dict(bench.missing)
    for runtime in bench.runtimes:
        try:
            # Each runtime's root must be there before what is below it is counted.
            turns.step(runtime.call("run", "--bundle", bundle, bench.id("crowd", runtime.name)))
            able[runtime.name] = runtime
        except turns.Failed as failure:
            unable[runtime.name] = str(failure)
    found = [measure_at(bench, bundle, at_once, able) for at_once in AT_ONCE]
    for table in found:
        table["rows"] += [{"name": name, "why": why} for name, why in unable.items()]
    return found


if __name__ == "__main__":
    contest.part(measure)
