#!/usr/bin/env python3
"""`wharf run` of a loaded image to the first byte of its output, on a host of cgroup2 alone. use: see contest.py"""
import contest
import tables
import turns
from engines import LOAD_LIMIT_S, Engine, first_output, wharf_of


class Program(Engine):
    """A program by itself."""

    def named(self, name, image):
        return []


def measure(bench):
    # Such a host would have the controllers for what is limited without being asked.
    alone, beside = wharf_of(bench, "alone", ["--pids", "0"]), wharf_of(bench, "beside", ["--pids", "0"])
    for engine in (alone, beside):
        turns.step(engine.command + ["load", "--quiet", "--input", bench.inputs["images"]["shell"]], LOAD_LIMIT_S)
    program = Program("echo", [], {}, {"none": []}, lambda *_: [], lambda _: [])
    stays = bench.id("stays")
    turns.step(beside.run(stays, "shell", "bridge", ["/bin/sleep", "100000"], detach=True))
    try:
        records = turns.measure(max(bench.rounds // 4, 5), {
            "floor": first_output(bench, program, "none"),
            "wharf, without a network": first_output(bench, alone, "none"),
            "wharf, the first on its bridge": first_output(bench, alone, "bridge"),
            "wharf, beside another instance": first_output(bench, beside, "bridge"),
        })
    finally:
        beside.remove(stays)
    note = "*floor* is `/bin/echo` by itself. The first instance makes the bridge and its rules, the last one removes them."
    rows = {metric: [record.row(name, metric) for name, record in records.items()] for metric in ("first", "end")}
    return [tables.latency(f"output-{metric}", f"`wharf run IMAGE /bin/echo`, to the {what}", rows[metric], note)
            for metric, what in (("first", "first byte of output"), ("end", "end"))]


if __name__ == "__main__":
    contest.part(measure)
