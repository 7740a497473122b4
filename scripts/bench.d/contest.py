"""What every part of the benchmark gets: the runtimes that take part, a place in memory, names of its own.

A part is a script `PART.py ROUNDS INPUTS [alone]`, run by scripts/bench below `apart`. INPUTS is the JSON file that it
writes; the part prints `{"tables": [...]}` as tables.py has them. `alone` says that it runs one thing at a time, so that
it may have a real-time priority where that is asked for.
"""
import dataclasses, json, os, pathlib, sys, tempfile

import bundles
import turns


@dataclasses.dataclass
class Runtime:
    """An OCI runtime; `command` has its global options."""
    name: str
    command: list

    def call(self, *arguments):
        return self.command + [str(argument) for argument in arguments]


class Contest:
    def __init__(self, rounds, inputs, work):
        self.rounds, self.inputs, self.work = rounds, inputs, pathlib.Path(work)
        self.bundles = {}
        self.prefix = inputs["prefix"]
        self.runtimes, self.missing = [], {}
        for name, peer in inputs["runtimes"].items():
            if "missing" in peer:
                self.missing[name] = peer["missing"]
                continue
            options = [option.replace("ROOT", f"{work}/state-{name}") for option in peer["options"]]
            self.runtimes.append(Runtime(name, [peer["program"]] + options))
        # Where floor's cgroups go: this namespace's cgroup2.
        for line in open("/proc/self/mountinfo"):
            if " - cgroup2 " in line:
                os.environ["CGROUP"] = line.split()[4]
                break

    def bundle(self, kind, *args):
        """The directory of a bundle of this kind, bundles.py has the kinds, with this program."""
        if (kind, args) not in self.bundles:
            directory = self.work / f"{kind}-{len(self.bundles)}"
            self.bundles[kind, args] = bundles.make(kind, directory, self.inputs, args)
        return self.bundles[kind, args]

    def id(self, *words):
        return "-".join([self.prefix, *map(str, words)])

    def floor(self, bundle):
        """A turn of the yardstick, which knows one config and only `run`."""
        command = [self.inputs["floor"], str(bundle / "rootfs")]
        return lambda number: {"": turns.step(command + [self.id("floor", number)])}

    def rows(self, records, metric=""):
        """Rows of a table, those of runtimes that are not here included."""
        rows = [record.row(name, metric) for name, record in records.items()]
        return rows + [{"name": name, "failed": 0, "why": why} for name, why in self.missing.items()]


def part(measure):
    """Runs a part: `measure(contest)` returns its tables."""
    inputs = json.loads(pathlib.Path(sys.argv[2]).read_text())
    if inputs["realtime"] and sys.argv[3:] == ["alone"]:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="bench.") as work:
        # Root of a user namespace is somebody else here, and must get through.
        os.chmod(work, 0o711)
        tables = measure(Contest(int(sys.argv[1]), inputs, work))
    json.dump({"tables": tables}, sys.stdout, indent=1)
