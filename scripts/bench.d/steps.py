#!/usr/bin/env python3
"""The steps of a container's life, each for itself: create, start, delete; exec; state. use: see contest.py"""
import os, select

import contest
import tables
import turns

NOTE = "*floor* is its whole `run`, in the same rounds."


def ended(pid):
    """Waits until a process that is nobody's child here has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    select.select([fd], [], [], turns.LIMIT_S)
    os.close(fd)


def life(bench, runtime, bundle):
    """create, start, (the program ends), delete; only the runtime's own time counts."""
    pid_file = bench.work / f"{runtime.name}.pid"

    def turn(number):
        name = bench.id("life", runtime.name, number)
        try:
            create = turns.step(runtime.call("create", "--bundle", bundle, "--pid-file", pid_file, name))
            pid = int(pid_file.read_text())
            start = turns.step(runtime.call("start", name))
            ended(pid)
            delete = turns.step(runtime.call("delete", name))
        except turns.Failed:
            turns.quietly(runtime.call("delete", "--force", name))
            raise
        return {"create": create, "start": start, "delete": delete, "together": create + start + delete}
    return turn


def lives(bench):
    bundle = bench.bundle("default")
    floor = bench.floor(bundle)
    contestants = {"floor": lambda number: dict.fromkeys(("create", "start", "delete", "together"), floor(number)[""])}
    contestants |= {runtime.name: life(bench, runtime, bundle) for runtime in bench.runtimes}
    records = turns.measure(bench.rounds, contestants)
    titles = {"together": "`create`, `start` and `delete`, together", "create": "`create`", "start": "`start`",
              "delete": "`delete`, of a container that has ended"}
    return [tables.latency(metric, title, bench.rows(records, metric), NOTE) for metric, title in titles.items()]


def standing(bench, case, title, arguments):
    """Calls to a container that stands; `arguments` are made of its name."""
    bundle = bench.bundle("default", "/bin/sleep", "10000")
    floor = bench.floor(bundle)

    standing, absent = {}, {}

    def turn(runtime):
        def ask(_):
            if runtime.name in absent:
                raise absent[runtime.name]
            return {"": turns.step(runtime.call(*arguments(standing[runtime.name])))}
        return ask
    try:
        for runtime in bench.runtimes:
            name = standing[runtime.name] = bench.id("standing", case, runtime.name)
            try:
                turns.step(runtime.call("create", "--bundle", bundle, name))
                turns.step(runtime.call("start", name))
            except turns.Failed as failure:
                absent[runtime.name] = failure
        contestants = {"floor": floor} | {runtime.name: turn(runtime) for runtime in bench.runtimes}
        rows = bench.rows(turns.measure(bench.rounds, contestants))
    finally:
        for runtime in bench.runtimes:
            turns.quietly(runtime.call("delete", "--force", standing[runtime.name]))
    return tables.latency(case, title, rows, NOTE)


def measure(bench):
    found = lives(bench)
    found.append(standing(bench, "exec", "`exec /bin/true` in a running container", lambda name: ["exec", name, "/bin/true"]))
    found.append(standing(bench, "state", "`state` of a running container", lambda name: ["state", name]))
    return found


if __name__ == "__main__":
    contest.part(measure)
