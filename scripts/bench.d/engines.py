#!/usr/bin/env python3
"""`wharf run` of a loaded image beside `podman run` and `ctr run`: to the first byte of its output, to a service that
answers, and what stays resident beside an instance. use: see contest.py

All below `apart`: bridges, rules and daemons go with its namespaces. Containerd runs before ctr is asked.
"""
import contextlib, os, pathlib, shutil, socket, subprocess, sys, time

import contest
import tables
import turns
from containerd import QUIET, containerd
from costs import pss

LOAD_LIMIT_S = 60
READY_LIMIT_S = 10
INSTANCES = 3


class Engine:
    """How one tool is asked; `run` returns the whole command of an instance in the foreground or not."""

    def __init__(self, name, command, images, networks, run, remove):
        self.name, self.command, self.images, self.networks = name, command, images, networks
        self.run_words, self.remove_words = run, remove

    def run(self, name, image, network, words, environment=(), detach=False):
        settings = [word for value in environment for word in ("--env", value)]
        return self.command + self.run_words(name, self.networks[network], settings, detach) + self.named(name, image) + list(words)

    def named(self, name, image):
        return [self.images[image]]

    def remove(self, name):
        for words in self.remove_words(name):
            subprocess.run(self.command + words, stdin=subprocess.DEVNULL, **QUIET)


class Ctr(Engine):
    def named(self, name, image):
        return [self.images[image], name]


def wharf_of(bench, name="wharf", options=()):
    """A store of its own."""
    return Engine(
        name, [bench.inputs["wharf"], "--root", str(bench.work / name)], {image: image for image in bench.inputs["images"]},
        {"none": ["--network", "none"], "bridge": [], "host": ["--network", "host"]},
        lambda name, network, settings, detach: ["run", "--name", name, *options, *network, *settings, "-d" if detach else "--rm"],
        lambda name: [["rm", "-f", name]])


def engines(bench):
    work, images = bench.work, bench.inputs["images"]
    wharf = wharf_of(bench)
    podman = Engine(
        "Podman", [shutil.which("podman") or "/usr/bin/podman", "--root", f"{work}/podman", "--runroot", f"{work}/podman-run",
                   "--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"], {image: f"localhost/{image}:latest" for image in images},
        {"none": ["--network", "none"], "bridge": [], "host": ["--network", "host"]},
        lambda name, network, settings, detach: ["run", "--name", name, "--cgroup-parent", f"/{bench.prefix}", *network, *settings,
                                                 "-d" if detach else "--rm"],
        lambda name: [["rm", "-f", "-t", "0", name]])
    ctr = Ctr(
        "containerd (ctr)", [shutil.which("ctr") or "/usr/bin/ctr", "-a", f"{work}/containerd/socket", "-n", bench.prefix],
        {image: f"{image}:latest" for image in images},
        # It has no network of its own.
        {"none": [], "host": ["--net-host"]},
        lambda name, network, settings, detach: ["run", *network, *settings, "-d" if detach else "--rm"],
        lambda name: [["tasks", "kill", "-s", "KILL", name], ["tasks", "rm", "--force", name], ["containers", "rm", name]])
    loads = {wharf: ["load", "--quiet", "--input"], podman: ["load", "--quiet", "--input"], ctr: ["images", "import"]}
    able, unable = [], {}
    for engine, words in loads.items():
        for file in images.values():
            try:
                turns.step(engine.command + words + [file], LOAD_LIMIT_S)
            except (turns.Failed, OSError) as failure:
                unable[engine.name] = f"cannot load an image: {failure}"
        if engine.name not in unable:
            able.append(engine)
    return able, unable


def first_output(bench, engine, network):
    """From the command to the first byte of what it prints, and to its end."""
    def turn(number):
        name = bench.id("echo", engine.name[:2].lower(), network, number)
        reader, writer = os.pipe()
        try:
            start = time.perf_counter()
            pid = turns.spawn(engine.run(name, "shell", network, ["/bin/echo", "ready"]), writer)
            os.close(writer)
            byte = os.read(reader, 1)
            first = time.perf_counter() - start
            status, usage = turns.finish(pid)
            end = time.perf_counter() - start
        finally:
            os.close(reader)
        if status or not byte:
            engine.remove(name)
            raise turns.Failed(turns.complaint())
        cpu = (usage.ru_utime + usage.ru_stime) * 1e3
        return {"first": turns.Step(first * 1e3, cpu), "end": turns.Step(end * 1e3, cpu)}
    return turn


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), .5) as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/")
    except OSError:
        return False


def ready(bench, engine, ports):
    """From the command to the first answer of a service, in the network of the host."""
    def turn(number):
        name, port = bench.id("web", engine.name[:2].lower(), number), next(ports)
        start = time.perf_counter()
        pid = turns.spawn(engine.run(name, "web", "host", [], [f"PORT={port}"]))
        try:
            while not answers(port):
                if time.perf_counter() - start > READY_LIMIT_S or os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                    raise turns.Failed(turns.complaint())
                time.sleep(.0002)
            took = time.perf_counter() - start
        finally:
            engine.remove(name)
            _, usage = turns.finish(pid)
        return {"": turns.Step(took * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)}
    return turn


def guardian_of(words):
    """The process that stays with an instance: the parent of the one that has these arguments."""
    for file in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if file.read_bytes().split(b"\0")[:-1] == [word.encode() for word in words]:
                return int(file.with_name("stat").read_text().rsplit(")", 1)[1].split()[1])
    raise turns.Failed("the instance is not found among the processes")


def resident(bench, engine, shared):
    """KiB of PSS of what stays beside each of several instances, and of the daemon that they need."""
    row = {"name": engine.name, "failed": 0, "daemon": shared}
    names = [bench.id("stay", engine.name[:2].lower(), number) for number in range(INSTANCES)]
    try:
        for number, name in enumerate(names):
            turns.step(engine.run(name, "shell", "none", ["/bin/sleep", f"98765{number}"], detach=True))
        time.sleep(.5)
        guardians = {guardian_of(["/bin/sleep", f"98765{number}"]) for number in range(INSTANCES)}
        row["each"] = sum(map(pss, guardians)) / INSTANCES
        row["guardian"] = ", ".join(sorted({pathlib.Path(f"/proc/{pid}/comm").read_text().strip() for pid in guardians}))
        # Alone it shares its pages with nobody.
        for name in names[1:]:
            engine.remove(name)
        time.sleep(.5)
        row["alone"] = pss(guardian_of(["/bin/sleep", "987650"]))
    except (turns.Failed, OSError) as failure:
        row["why"] = str(failure)
    finally:
        for name in names:
            engine.remove(name)
    return row


def measure(bench):
    place = bench.work / "containerd"
    place.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            daemon = stack.enter_context(containerd(place))
        except OSError as failure:
            # The others do without; ctr's rows tell.
            daemon = None
            print(failure, file=sys.stderr)
        return tables_of(bench, daemon)


def tables_of(bench, daemon):
    able, unable = engines(bench)
    absent = [{"name": name, "why": why, "failed": 0} for name, why in unable.items()]
    found = []
    for network, words in (("bridge", "with the network it has by default"), ("none", "without a network")):
        contestants = {engine.name: first_output(bench, engine, network) for engine in able if network in engine.networks}
        records = turns.measure(bench.rounds, contestants)
        for metric, what in (("first", "first byte of output"), ("end", "end")):
            rows = [record.row(name, metric) for name, record in records.items()] + absent
            found.append(table(f"{metric}-{network}", f"`run IMAGE /bin/echo`, {words}: to the {what}", rows))
    ports = iter(range(20000, 60000))
    records = turns.measure(bench.rounds, {engine.name: ready(bench, engine, ports) for engine in able})
    found.append(table("ready", "`run` of a web service in the host's network: to its first answer",
                       [record.row(name, "") for name, record in records.items()] + absent))
    rows = [resident(bench, engine, pss(daemon.pid) if engine.name.startswith("containerd") else 0) for engine in able]
    found.append({"key": "resident", "title": "What stays beside a running instance", "of": "engine", "rows": rows + absent,
                  "note": f"PSS of the process that is the parent of the container's: beside one instance, and of each beside {INSTANCES}, where they share "
                          "pages; and of the daemon that all of them need.",
                  "columns": [["guardian", "process", "s"], ["alone", "one, PSS KiB", ".0f"], ["each", f"each of {INSTANCES}, PSS KiB", ".0f"],
                              ["daemon", "daemon, PSS KiB", ".0f"]]})
    return found


def table(key, title, rows):
    base = next((row["median"] for row in rows if row["name"] == "wharf" and "median" in row), None)
    for row in rows:
        if base and "median" in row:
            row["x_wharf"] = row["median"] / base
    return {"key": key, "title": title, "note": "On this host's own cgroups, for engines set limits.", "of": "engine", "rows": rows,
            "columns": [*tables.LATENCY[:3], ["x_wharf", "× wharf", ".2f"], *tables.FAILED]}


if __name__ == "__main__":
    contest.part(measure)
