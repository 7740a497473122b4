"""What wharf is to reach, beside what was measured."""
from results import value


def at_most(limit, text, unit=""):
    return lambda number: (format(number, text) + unit, number <= limit)


def crowd(found):
    ratio, failed = (value(found, "crowd-64", "wharf-oci", key) for key in ("x_crun", "failed"))
    return None if ratio is None else (f"{ratio:.2f} × crun, {failed} failed", ratio >= 2 and not failed)


def of(table, name, key, judge):
    def found_value(found):
        number = value(found, table, name, key)
        return None if number is None else judge(number)
    return found_value


TARGETS = [
    ("`run` ≤ 1.3 × floor", of("run-default", "wharf-oci", "x_floor", at_most(1.3, ".2f", " ×"))),
    ("`run` ≤ 0.6 × crun", of("run-default", "wharf-oci", "x_crun", at_most(.6, ".2f", " ×"))),
    ("`run` with Docker's config ≤ 1.5 × floor", of("run-docker", "wharf-oci", "x_floor", at_most(1.5, ".2f", " ×"))),
    ("`create` + `start` + `delete` ≤ 0.6 × crun", of("together", "wharf-oci", "x_crun", at_most(.6, ".2f", " ×"))),
    ("`exec` ≤ 0.6 × crun", of("exec", "wharf-oci", "x_crun", at_most(.6, ".2f", " ×"))),
    ("default `run` ≤ 250 system calls", of("calls", "wharf-oci", "calls", at_most(250, "d"))),
    ("64 at once: ≥ 2 × crun's runs per second, no failure", crowd),
    ("waiting after `create` ≤ 300 KiB PSS", of("memory", "wharf-oci", "waiting", at_most(300, ".0f", " KiB"))),
    ("supervisor of an instance ≤ 1 MiB PSS", of("resident", "wharf", "alone", at_most(1024, ".0f", " KiB"))),
    ("`wharf run` of a loaded image, on its bridge beside another instance: first output ≤ 10 ms",
     of("output-first", "wharf, beside another instance", "median", at_most(10, ".1f", " ms"))),
    ("the same without a network", of("output-first", "wharf, without a network", "median", at_most(10, ".1f", " ms"))),
    ("the same for the first instance on its bridge", of("output-first", "wharf, the first on its bridge", "median", at_most(10, ".1f", " ms"))),
    ("the same without a network, on this host's v1 hierarchies, in turn with Podman and containerd",
     of("first-none", "wharf", "median", at_most(10, ".1f", " ms"))),
]


def markdown(found):
    lines = ["| target | measured | met |", "|---|---:|---|"]
    for words, judge in TARGETS:
        measured, met = judge(found) or ("not measured", None)
        lines.append(f"| {words} | {measured} | {'' if met is None else 'yes' if met else 'no'} |")
    return "\n".join(lines) + "\n"
