#!/usr/bin/env python3
"""Turns criterion's estimates of benches/parts.rs into a table.

use: inside.py CRITERION_HOME
"""
import json, pathlib, sys

rows = []
for file in sorted(pathlib.Path(sys.argv[1]).glob("**/new/benchmark.json"), key=lambda file: file.stat().st_mtime):
    names = json.loads(file.read_text())
    estimates = json.loads(file.with_name("estimates.json").read_text())
    interval = estimates["median"]["confidence_interval"]
    rows.append({"name": names["full_id"].replace("/", ": ", 1) if names["function_id"] else names["group_id"],
                 "median": estimates["median"]["point_estimate"] / 1e3,
                 "low": interval["lower_bound"] / 1e3, "high": interval["upper_bound"] / 1e3})
if not rows:
    sys.exit("criterion left no estimates")
json.dump({"tables": [{
    "key": "inside", "title": "Inside the program", "of": "part", "rows": rows,
    "note": "By criterion (`cargo bench --bench parts`), in the code of wharf-oci, without starting it: medians and the interval that holds them with a confidence of 95 %.",
    "columns": [["median", "median µs", ".1f"], ["low", "from", ".1f"], ["high", "to", ".1f"]]}]}, sys.stdout, indent=1)
