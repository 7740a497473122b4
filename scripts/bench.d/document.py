#!/usr/bin/env python3
"""Prints the runtime's part of docs/benchmarks.md.

use: document.py RESULTS INPUTS COMMAND      COMMAND is how this was measured
"""
import json, pathlib, sys, time

import results
import tables
import targets

directory, command = pathlib.Path(sys.argv[1]), sys.argv[3]
inputs = json.loads(pathlib.Path(sys.argv[2]).read_text())
found = results.read(directory)

priority = """
Others used the machine at the same time: `run`, the steps and the costs were measured at a real-time priority (SCHED_RR), that of
what they start included.
""" if inputs["realtime"] else ""
print(f"""
`{command}` wrote this part on {time.strftime('%F', time.gmtime())}. It measures the cost of the runtime itself: a busybox bundle in memory,
`/bin/true` as the program, in a mount namespace of cgroup2 alone where a title says nothing else. Contestants take turns, so
that drift of the machine hits all alike; ratios are of medians. *floor* is the least a runtime must ask of the kernel for a `run`
of the runtime-spec default config (`runc spec`), without reading JSON, keeping state or checking anything
(scripts/bench.d/floor.c): a yardstick, not a runtime. It takes its turn in every round, whatever the runtimes do in it.
{priority}
### Targets

{targets.markdown(found)}
![Ratios of medians to the floor](benchmarks.svg)

### Measured

| | |
|---|---|""")
for label, fact in inputs["facts"]:
    print(f"| {label} | {fact} |")
print()
for part in results.PARTS:
    failure = directory / f"{part}.failed"
    if failure.exists():
        print(f"The part `{part}` was not measured: {failure.read_text().strip()}\n")
for table in found.values():
    print(tables.markdown(table))
