"""Interleaved timing: every round gives each contestant one turn, in an order that turns by one each round, so
that drift of the machine and a neighbour's wake hit all alike.

A turn is a function of the round's number. It returns what it timed, `{metric: Step}`, or raises Failed. Rounds that
fail are counted and left out; a contestant that fails in all of the first rounds, or hangs in several, is given up.
"""
import dataclasses, os, signal, statistics, time

WARM_UP = 5
GIVE_UP = 3
LIMIT_S = 5
NULL = os.open("/dev/null", os.O_RDWR)
# What a step writes to its standard error; the last line of it is why it failed.
COMPLAINTS = os.memfd_create("stderr")


class Failed(Exception):
    """A step failed; the text says why."""


class Hung(Failed):
    """A step took longer than any should."""


class Late(Exception):
    pass


@dataclasses.dataclass
class Step:
    """Wall and CPU milliseconds; CPU is that of the process and of those it waited for."""
    wall: float
    cpu: float = 0

    def __add__(self, other):
        return Step(self.wall + other.wall, self.cpu + other.cpu)


def complaint():
    text = os.pread(COMPLAINTS, 1 << 16, 0).decode(errors="replace").strip()
    # Rust's and Go's programs may add a trace of their own to the sentence.
    lines = [line for line in text.splitlines() if "rror" in line or "level=" in line] or text.splitlines()
    return (lines[-1] if lines else "without a word")[:300]


def spawn(command, out=NULL):
    """Starts a command without a shell; its pid."""
    os.ftruncate(COMPLAINTS, 0)
    os.lseek(COMPLAINTS, 0, os.SEEK_SET)
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate((NULL, out, COMPLAINTS))]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions)


def late(*_):
    raise Late


def finish(pid, limit_s=LIMIT_S):
    """Waits for a process, not for ever; its status and usage."""
    signal.signal(signal.SIGALRM, late)
    signal.alarm(limit_s)
    try:
        _, status, usage = os.wait4(pid, 0)
    except Late:
        os.kill(pid, signal.SIGKILL)
        os.wait4(pid, 0)
        raise Hung(f"not done after {limit_s} s") from None
    finally:
        signal.alarm(0)
    return status, usage


def step(command, limit_s=LIMIT_S):
    """Runs a command to its end and times it."""
    start = time.perf_counter()
    status, usage = finish(spawn(command), limit_s)
    took = time.perf_counter() - start
    if status:
        raise Failed(complaint())
    return Step(took * 1e3, (usage.ru_utime + usage.ru_stime) * 1e3)


def quietly(command):
    """Runs a command for its effect, if it has one."""
    try:
        step(command)
    except Failed:
        pass


@dataclasses.dataclass
class Record:
    """What a contestant's turns took, by metric."""
    steps: dict = dataclasses.field(default_factory=dict)
    good: int = 0
    failed: int = 0
    hung: int = 0
    why: str = ""

    def is_given_up(self):
        return self.hung >= GIVE_UP or not self.good and self.failed >= GIVE_UP

    def row(self, name, metric):
        """A row of a table; without times when every round failed."""
        steps = self.steps.get(metric, [])
        row = {"name": name, "failed": self.failed}
        if not steps:
            return row | {"why": self.why}
        walls = sorted(step.wall for step in steps)
        if self.hung:
            row["aside"] = f"{self.hung} {self.why}" + (", given up" if self.is_given_up() else "")
        return row | {"median": statistics.median(walls), "min": walls[0], "p95": walls[int(len(walls) * .95)],
                      "cpu": statistics.median(step.cpu for step in steps), "rounds": len(walls)}


def measure(rounds, turns, warm_up=WARM_UP):
    """Gives each contestant of `{name: turn}` its turn in every round; `{name: Record}`."""
    records = {name: Record() for name in turns}
    names = list(turns)
    for number in range(rounds + warm_up):
        first = number % len(names) if names else 0
        for name in names[first:] + names[:first]:
            record = records[name]
            if record.is_given_up():
                continue
            try:
                steps = turns[name](number)
            except Failed as failure:
                record.failed += 1
                record.hung += isinstance(failure, Hung)
                record.why = str(failure)
                continue
            record.good += 1
            if number >= warm_up:
                for metric, step in steps.items():
                    record.steps.setdefault(metric, []).append(step)
    return records
