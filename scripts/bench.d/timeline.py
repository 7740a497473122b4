#!/usr/bin/env python3
"""Draws where each microsecond of a run goes: the program and the container's process, beside the floor's.

use: timeline.py RUNS TRACEFS BUNDLE OUT.svg FLOOR WHARF-OCI      in a mount namespace with tracefs at TRACEFS

Times are medians, call by call. A traced run is longer than one that is not: each call costs some tenths of a
microsecond more, in all lanes alike.
"""
import contextlib, ctypes, mmap, os, pathlib, shutil, statistics, sys, time

import svg
import trace
import turns

RUNS, TRACEFS, BUNDLE, OUT, FLOOR, WHARF = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3]), *sys.argv[4:7]
KINDS = {
    "processes": ("#8e6fd8", "clone3 clone vfork fork execve execveat wait4 waitid exit exit_group pidfd_open pidfd_send_signal kill setsid"),
    "mounts": ("#2f81f7", "mount umount2 fsopen fsconfig fsmount move_mount open_tree open_tree_attr mount_setattr pivot_root chroot fspick statmount"),
    "namespaces, cgroups, limits": ("#1f9e89", "unshare setns sethostname setdomainname prlimit64 setrlimit sched_setaffinity keyctl"),
    "BPF and seccomp": ("#d6409f", "bpf seccomp"),
    "rights": ("#b8860b", "prctl capset capget setuid setgid setresuid setresgid setgroups setfsuid getuid geteuid getgid getegid umask"),
    "files and sockets": ("#e0823d", "open openat openat2 read pread64 write pwrite64 close close_range fstat newfstatat statx stat lstat access faccessat faccessat2 "
                          "mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 mknod mknodat symlink symlinkat readlink readlinkat chmod fchmod "
                          "fchmodat chown fchown fchownat chdir fchdir getcwd fcntl dup dup2 dup3 ioctl lseek getdents64 pipe2 socket socketpair bind listen "
                          "connect accept accept4 sendmsg recvmsg sendto recvfrom poll ppoll epoll_wait fstatfs statfs flock memfd_create ftruncate sendfile fsync"),
    "memory": ("#57ab5a", "brk mmap munmap mprotect madvise mremap"),
}
OTHER, CODE, FAULTS, WAITING = "other calls", "the program's own code", "page faults", "waiting, switched off"
COLOURS = {kind: colour for kind, (colour, _) in KINDS.items()} | {OTHER: "#7d8590", CODE: "#f2cc60", FAULTS: "#e5534b", WAITING: "#b8c0c8"}
KIND_OF = {name: kind for kind, (_, names) in KINDS.items() for name in names.split()}
WIDTH, LEFT, RIGHT, LANE, LABELS = 1280, 128, 24, 34, 96
LABELLED = 16


def fault_us():
    """What a fault of one page takes here: first touches of a little memory, less the second ones."""
    pages, found = 64, []
    for _ in range(300):
        memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        start = time.perf_counter()
        ctypes.memset(address, 1, pages * mmap.PAGESIZE)
        middle = time.perf_counter()
        ctypes.memset(address, 2, pages * mmap.PAGESIZE)
        found.append((2 * middle - start - time.perf_counter()) / pages * 1e6)
    return statistics.median(found)


def record(command_of, count):
    """The `count` lanes of one program, and of how many runs they are the medians."""
    calls, lanes = trace.names(), []
    with trace.Instance(TRACEFS).recording() as take:
        for number in range(RUNS + turns.WARM_UP):
            take()
            pid = turns.spawn(command_of(number))
            status, _ = turns.finish(pid)
            if status:
                raise turns.Failed(turns.complaint())
            found = trace.spans_of(take(), pid, calls)
            if number >= turns.WARM_UP and len(found) == count:
                lanes.append(found)
    if not lanes:
        raise turns.Failed("the trace shows no run as a whole")
    # The faster half: the others are those that a neighbour's work has stopped.
    lanes.sort(key=lambda found: found[0][-1].start)
    return [trace.median(runs) for runs in zip(*lanes[:(len(lanes) + 1) // 2])]


def pieces(spans, fault):
    """A lane as coloured pieces `(start, length, kind, label)`, none over another."""
    end = 0
    for span in spans:
        faults = min(span.faults * fault, span.before)
        start = max(span.start, end)
        at = max(start - span.before, end)
        if faults:
            yield at, min(faults, start - at), FAULTS, f"{span.faults:.0f} page faults"
        if start - at > faults:
            yield at + faults, start - at - faults, CODE, "own code"
        running = max(span.length - span.waiting, 0)
        kind = KIND_OF.get(span.name, OTHER)
        yield start, running, kind, span.name
        if span.waiting:
            yield start + running, span.waiting, WAITING, f"waiting in {span.name}"
        end = start + span.length


def labels(lane, y, scale):
    """The longest pieces by name, above the lane, as far as they do not touch; waiting in itself, where it has room."""
    taken, drawn = [], []
    for start, length, kind, name in sorted(lane, key=lambda piece: -piece[1])[:LABELLED * 2]:
        x = LEFT + (start + length / 2) * scale
        if kind == WAITING:
            if length * scale > 7.5 * len(name) + 40:
                drawn.append(f'<text x="{x:.1f}" y="{y + 21:.1f}" class="small middle" style="fill: #1f2328">{name} {length:.0f}</text>')
            continue
        if length * scale < 3 or len(taken) == LABELLED or any(abs(x - other) < 13 for other in taken):
            continue
        taken.append(x)
        drawn.append(f'<g transform="rotate(-52 {x:.1f} {y - 5:.1f})">{svg.text(x, y - 5, f"{name} {length:.0f}", "small")}</g>')
    return drawn


def sums(lane):
    total = dict.fromkeys(COLOURS, 0)
    for _, length, kind, _ in lane:
        total[kind] += length
    return total


def draw(programs, fault):
    lanes = [(title, list(pieces(spans, fault)), runs) for title, spans, runs in programs]
    longest = max(piece[0] + piece[1] for _, lane, _ in lanes for piece in lane)
    scale = (WIDTH - LEFT - RIGHT) / longest
    elements = [svg.text(24, 34, "Where each microsecond of a run goes", "title"),
                svg.text(24, 55, f"run /bin/true, runtime-spec default config. Medians of the faster half of {RUNS} runs, call by call, from the kernel's trace; "
                         f"a page fault counts as the {fault:.2f} µs that one takes here.", "soft")]
    y = 66
    for title, lane, _ in lanes:
        y += LABELS
        elements.append(svg.rect(LEFT, y, WIDTH - LEFT - RIGHT, LANE, classes="lane"))
        for row, words in enumerate(title.split(": ")):
            elements.append(svg.text(LEFT - 10, y + 15 + row * 14, words, "end " + ("bold" if row == 0 else "soft small")))
        for start, length, kind, name in lane:
            elements.append(svg.rect(LEFT + start * scale, y, max(length * scale, .15), LANE, COLOURS[kind], title=f"{name}: {length:.1f} µs at {start:.0f} µs"))
        elements += labels(lane, y, scale)
        y += LANE
    step = next(step for step in (100, 200, 250, 500, 1000, 2500, 5000, 10000) if longest / step <= 16)
    for tick in range(0, int(longest) + 1, step):
        x = LEFT + tick * scale
        elements += [svg.line(x, y + 4, x, y + 10), svg.text(x, y + 24, f"{tick:,} µs" if tick == 0 else f"{tick:,}", "soft small middle")]
    y += 58
    # What the pieces of each kind come to.
    columns = [LEFT + 330 + 160 * column for column in range(len(lanes))]
    elements += [svg.text(x, y, title.replace(": ", ", "), "end small bold") for x, (title, _, _) in zip(columns, lanes)]
    totals = [sums(lane) for _, lane, _ in lanes]
    for kind, colour in COLOURS.items():
        y += 20
        elements += [svg.rect(LEFT, y - 10, 12, 12, colour, round=2), svg.text(LEFT + 20, y, kind)]
        elements += [svg.text(x, y, f"{total[kind]:,.0f} µs", "end") for x, total in zip(columns, totals)]
    y += 22
    elements.append(svg.text(LEFT + 20, y, "all but waiting", "bold"))
    elements += [svg.text(x, y, f"{sum(total.values()) - total[WAITING]:,.0f} µs", "end bold") for x, total in zip(columns, totals)]
    return svg.picture(WIDTH, y + 24, "Time line of a run of wharf-oci beside the bare system calls", elements)


def main():
    # Neighbours would show as gaps.
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    root = BUNDLE / "state"
    name = f"{BUNDLE.parent.name}-trace"
    program, thread, container = record(lambda number: [WHARF, "--root", str(root), "run", "--bundle", str(BUNDLE), f"{name}-{number}"], 3)
    floor, bare = record(lambda number: [FLOOR, str(BUNDLE / "rootfs"), f"{name}-floor-{number}"], 2)
    shutil.rmtree(root, ignore_errors=True)
    picture = draw([("wharf-oci: the program", *program), ("wharf-oci: its thread", *thread), ("wharf-oci: the container", *container),
                    ("floor: the program", *floor), ("floor: the container", *bare)], fault_us())
    pathlib.Path(OUT).write_text(picture)
    for title, (spans, runs) in (("wharf-oci", program), ("its thread", thread), ("its container", container), ("floor", floor), ("its container", bare)):
        print(f"{title}: {len(spans)} calls, medians of {runs} runs, from 0 to {spans[-1].start + spans[-1].length:.0f} µs")


if __name__ == "__main__":
    try:
        main()
    except (turns.Failed, OSError) as failure:
        sys.exit(f"timeline.py: {failure}")
