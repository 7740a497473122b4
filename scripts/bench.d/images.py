#!/usr/bin/env python3
"""Loads and unpacks one image with several tools, in turn, in memory and on disk.

use: images.py ROUNDS IMAGE WHARF MEMORY DISK

IMAGE is a directory of scripts/bench.d/image (layout/, layout.tar), WHARF the program, MEMORY and DISK are
empty directories on a tmpfs and on a disk, which are left empty. Each round runs every tool once, in an order
that turns by one; a tool that is not installed is left out. Prints Markdown tables: wall and CPU seconds (of
the client and its children; containerd's daemon works beside its client, and is counted too) and the most
memory of the client process.
"""
import glob, os, pathlib, shutil, statistics, subprocess, sys, time

from containerd import QUIET, containerd, cpu_of

ROUNDS, IMAGE, WHARF = int(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
PLACES = {"in memory": pathlib.Path(sys.argv[4]), "on disk": pathlib.Path(sys.argv[5])}
LAYOUT, ARCHIVE = IMAGE / "layout", IMAGE / "layout.tar"


def layers():
    return [blob for blob in glob.glob(str(LAYOUT / "blobs/sha256/*")) if os.path.getsize(blob) > 1 << 20]


def pipes(place):
    """What a shell does, and no verification: three at once."""
    commands = []
    for number, blob in enumerate(layers()):
        (place / str(number)).mkdir()
        commands.append(f"gzip -dc {blob} | tar -x -C {place / str(number)} &")
    return ["sh", "-c", "\n".join(commands + ["wait"])]


def run(command):
    """Wall seconds, CPU seconds and peak KiB of a command."""
    began = time.monotonic()
    process = subprocess.Popen([str(word) for word in command], **QUIET)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = status
    if status:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def ctr(place):
    with containerd(place) as daemon:
        before = cpu_of(daemon.pid)
        wall, cpu, peak = run(["ctr", "-a", place / "socket", "images", "import", ARCHIVE])
        return wall, cpu + cpu_of(daemon.pid) - before, peak


def wharf(*arguments):
    return lambda place: run([WHARF, "--root", place, *arguments])


TOOLS = {
    "three `gzip -dc \\| tar -x` at once": ("tar", lambda place: run(pipes(place))),
    "`wharf load LAYOUT.tar`": (WHARF, wharf("load", "--quiet", ARCHIVE)),
    "`wharf load LAYOUT/`": (WHARF, wharf("load", "--quiet", LAYOUT)),
    "`wharf load --no-unpack LAYOUT.tar`": (WHARF, wharf("load", "--quiet", "--no-unpack", ARCHIVE)),
    "`umoci unpack`, of a layout": ("umoci", lambda place: run(["umoci", "unpack", "--image", f"{LAYOUT}:bench:latest", place / "bundle"])),
    "`podman load`": ("podman", lambda place: run(["podman", "--root", place / "root", "--runroot", place / "run", "--storage-driver",
                                                    "overlay", "load", "--quiet", "--input", ARCHIVE])),
    "`ctr images import`": ("ctr", ctr),
}


def empty(place):
    # Podman mounts its storage over itself.
    mounts = [line.split()[4] for line in open("/proc/self/mountinfo") if line.split()[4].startswith(str(place) + "/")]
    for mount in sorted(mounts, reverse=True):
        subprocess.run(["umount", mount], check=True)
    for entry in place.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    os.sync()


def measure(place):
    present = [name for name, (program, _) in TOOLS.items() if shutil.which(program)]
    found = {name: [] for name in present}
    for number in range(ROUNDS):
        turn = number % len(present)
        for name in present[turn:] + present[:turn]:
            empty(place)
            found[name].append(TOOLS[name][1](place))
            print(f"{place}: {name}: {found[name][-1][0]:.1f} s", file=sys.stderr)
    empty(place)
    return found


for words, place in PLACES.items():
    found = measure(place)
    medians = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in found.items()}
    umoci = medians.get("`umoci unpack`, of a layout", [None])[0]
    floor = medians["three `gzip -dc \\| tar -x` at once"][0]
    print(f"\n#### {words}\n\n| | median s | CPU s | × gzip and tar | umoci ÷ it | peak MiB |\n|---|---:|---:|---:|---:|---:|")
    for name, (wall, cpu, peak) in medians.items():
        faster = f"{umoci / wall:.2f}" if umoci else ""
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / floor:.2f} | {faster} | {peak / 1024:.0f} |")
