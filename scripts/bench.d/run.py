#!/usr/bin/env python3
"""`run /bin/true` to its end, with several configs. use: see contest.py"""
import pathlib, subprocess

import contest
import tables
import turns
from bundles import LIMITS, controllers

CASES = {
    "default": ("`run /bin/true`, runtime-spec default config", ""),
    "docker": ("`run`, Docker's config",
               "What an engine sends: the default seccomp profile, 14 capabilities, user 1000, device rules, sysctls, three files "
               "bound over. Limits: {limits}. *floor* is the one of the default config."),
    "idmapped": ("`run`, user namespace and an idmapped mount", "*floor* is the one of the default config."),
    "mounts": ("`run`, 100 mounts", "A hundred directories of the host bound, half of them read-only. *floor* is the one of the "
               "default config."),
}


def turn(bench, runtime, bundle, case):
    def run(number):
        name = bench.id(case, runtime.name, number)
        try:
            return {"": turns.step(runtime.call("run", "--bundle", bundle, name))}
        except turns.Failed:
            turns.quietly(runtime.call("delete", "--force", name))
            raise
    return run


def ignores_mapping(bench, runtime):
    """Whether a directory of the host's root is not root's inside, where root is another user of the host."""
    bundle = bench.bundle("idmapped", "/bin/stat", "-c", "%u", "/mnt/data")
    command = runtime.call("run", "--bundle", bundle, bench.id("owner", runtime.name))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=turns.LIMIT_S)
    return done.returncode == 0 and done.stdout.strip() != "0"


def measure(bench):
    unified = pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists()
    # Where the host's own cgroups are not cgroup2 alone, only limits make a difference.
    cases = CASES if unified else {"docker": ("`run`, Docker's config, on this host's own cgroups (v1)", CASES["docker"][1])}
    found = []
    for case, (title, note) in cases.items():
        try:
            bundle = bench.bundle(case)
        except (OSError, ValueError, subprocess.SubprocessError) as failure:
            why = f"no such config: {failure}"
            found.append(tables.latency("run-" + case, title, [{"name": name, "why": why} for name in bench.inputs["runtimes"]]))
            continue
        contestants = {"floor": bench.floor(bundle)}
        contestants |= {runtime.name: turn(bench, runtime, bundle, case) for runtime in bench.runtimes}
        rows = bench.rows(turns.measure(bench.rounds, contestants))
        limits = [name for name in LIMITS if name in controllers()]
        note = note.format(limits=", ".join(limits) or "none, for cgroup2 has no memory, cpu and pids controllers on this host")
        if case == "idmapped" and (ignoring := [runtime.name for runtime in bench.runtimes if ignores_mapping(bench, runtime)]):
            note += f" What {' and '.join(ignoring)} made has the host's ids: the mapping was ignored."
        found.append(tables.latency("run-" + case + ("" if unified else "-v1"), title, rows, note))
    return found


if __name__ == "__main__":
    contest.part(measure)
