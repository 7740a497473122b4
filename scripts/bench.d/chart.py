#!/usr/bin/env python3
"""Draws medians as bars, in multiples of the floor's.

use: chart.py RESULTS OUT.svg      RESULTS is the directory of the parts' JSON files
"""
import pathlib, sys

import results
import svg

CASES = [("run-default", "run, runtime-spec default"), ("run-docker", "run, Docker's config"),
         ("run-idmapped", "run, user namespace + idmap"), ("run-mounts", "run, 100 mounts"),
         ("together", "create + start + delete"), ("exec", "exec"), ("state", "state")]
COLOURS = {"wharf-oci": "#2f81f7", "crun": "#e0823d", "youki": "#8e6fd8", "runc": "#7d8590"}
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 900, 236, 70, 92, 15, 14
# What is longer is cut, and says its value.
LONGEST = 10


def bars_of(found):
    for key, title in CASES:
        rows = found.get(key, {}).get("rows", [])
        bars = [(row["name"], row["x_floor"]) for row in rows if row["name"] in COLOURS and "x_floor" in row]
        if bars:
            yield title, bars


def draw(found):
    groups = list(bars_of(found))
    if not groups:
        sys.exit("chart.py: nothing was measured beside the floor")
    names = [name for name in COLOURS if any(name == bar for _, bars in groups for bar, _ in bars)]
    end = min(LONGEST, max(value for _, bars in groups for _, value in bars))
    scale = (WIDTH - LEFT - RIGHT) / end
    elements = [svg.text(24, 34, "How many times as long as the bare system calls", "title"),
                svg.text(24, 55, "Medians of interleaved rounds. 1.0 is floor.c, which knows only run: clone3, mounts, pivot_root, execve, wait. Less is better.", "soft")]
    x = 24
    for name in names:
        elements += [svg.rect(x, 67, 12, 12, COLOURS[name], round=2), svg.text(x + 18, 77.5, name)]
        x += 36 + 8 * len(name)
    y, body = TOP + 8, []
    for title, bars in groups:
        middle = y + len(bars) * (BAR + 2) / 2
        body.append(svg.text(LEFT - 12, middle + 4, title, "end" + (" bold" if title.startswith("run, runtime") else "")))
        for name, value in bars:
            length = min(value, end) * scale
            body.append(svg.rect(LEFT, y, length, BAR, COLOURS[name], title=f"{name}: {value:.2f}", round=2))
            if value > end:
                cut = LEFT + length - 16
                body.append(f'<path d="M{cut:.1f} {y + BAR} l5 -{BAR} h5 l-5 {BAR} z" class="card" stroke-width="0"/>')
            body.append(svg.text(LEFT + length + 6, y + BAR - 3, f"{value:.2f}", "value bold" if name == "wharf-oci" else "value"))
            y += BAR + 2
        y += GAP
    bottom = y - GAP + 6
    step = 1 if end <= 12 else 5
    grid = []
    for tick in range(0, int(end) + 1, step):
        at = LEFT + tick * scale
        grid += [svg.line(at, TOP, at, bottom), svg.text(at, bottom + 18, tick, "soft small middle")]
    one = LEFT + scale
    mark = [svg.line(one, TOP - 4, one, bottom, "mark"), svg.text(one + 5, TOP + 2, "floor", "small bold value")]
    # The line at 1.0 stays visible over the bars.
    elements += grid + body + mark
    return svg.picture(WIDTH, bottom + 32, "Ratios of medians to the floor, by case and runtime", elements)


if __name__ == "__main__":
    pathlib.Path(sys.argv[2]).write_text(draw(results.read(sys.argv[1])))
