"""Makes the bundles that runtimes are measured with.

use: bundles.py KIND DIRECTORY INPUTS

`default` is what `runc spec` writes, with /bin/true; the other kinds are made of it or of what an engine sends.
"""
import json, pathlib, shutil, subprocess, sys

USER = 1000
MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
MOUNTS = 100
# What `docker run --memory 64m --cpus 0.5 --pids-limit 100` adds, by the controller that it needs.
LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 64 << 20},
    "cpu": {"shares": 1024, "quota": 50000, "period": 100000},
    "pids": {"limit": 100},
}


def controllers():
    """Those that a container can have limits of in this namespace."""
    unified = pathlib.Path("/sys/fs/cgroup/cgroup.controllers")
    if unified.exists():
        return unified.read_text().split()
    return [line.split()[0] for line in open("/proc/cgroups") if not line.startswith("#")]


def default(directory):
    subprocess.run(["runc", "spec", "--bundle", directory], check=True)
    config = json.loads((directory / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/true"])
    return config


def docker(directory, sent):
    """Docker's default container of a user: what containerd makes of its defaults (`sent`: Docker's capabilities,
    devices, paths and seccomp profile), with Docker's own mounts, sysctls and limits."""
    config = json.loads(pathlib.Path(sent).read_text())
    config["root"] = {"path": "rootfs"}
    config["hostname"] = "bench"
    config.pop("annotations", None)
    process = config["process"]
    process.update(terminal=False, args=["/bin/true"], oomScoreAdj=0,
                   user={"uid": USER, "gid": USER, "additionalGids": [USER]})
    # Docker leaves a user that is not root the bounding set alone.
    process["capabilities"] = {"bounding": process["capabilities"]["bounding"]}
    process["noNewPrivileges"] = False
    process.pop("rlimits", None)
    config["mounts"] = [mount for mount in config["mounts"] if mount["destination"] != "/run"]
    config["mounts"].append({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                             "options": ["ro", "nosuid", "noexec", "nodev"]})
    for name in ("resolv.conf", "hostname", "hosts"):
        (directory / name).write_text("")
        (directory / "rootfs/etc" / name).touch()
        config["mounts"].append({"destination": f"/etc/{name}", "type": "bind", "source": str(directory / name),
                                 "options": ["rbind", "rprivate"]})
    linux = config["linux"]
    linux.pop("cgroupsPath", None)
    linux["sysctl"] = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    if not any(namespace["type"] == "cgroup" for namespace in linux["namespaces"]):
        linux["namespaces"].append({"type": "cgroup"})
    here = controllers()
    linux["resources"] = {"devices": linux["resources"]["devices"]}
    linux["resources"].update({name: limit for name, limit in LIMITS.items() if name in here})
    return config


def idmapped(directory):
    """In a user namespace, with a directory of the host whose ids are those of the container."""
    config = default(directory)
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"].update(uidMappings=MAPPING, gidMappings=MAPPING)
    (directory / "data").mkdir()
    (directory / "rootfs/mnt/data").mkdir(parents=True)
    config["mounts"].append({"destination": "/mnt/data", "type": "bind", "source": str(directory / "data"),
                             "options": ["bind", "rw"], "uidMappings": MAPPING, "gidMappings": MAPPING})
    return config


def mounts(directory):
    """With a hundred directories of the host, every other one read-only."""
    config = default(directory)
    (directory / "data").mkdir()
    for number in range(MOUNTS):
        (directory / f"rootfs/mnt/{number}").mkdir(parents=True)
        options = ["rbind", "ro", "nosuid", "nodev"] if number % 2 else ["rbind", "rw"]
        config["mounts"].append({"destination": f"/mnt/{number}", "type": "bind", "source": str(directory / "data"),
                                 "options": options})
    return config


def make(kind, directory, inputs, args=()):
    """Makes a bundle of this kind, of /bin/true or another program, in a new directory, which it returns."""
    directory = pathlib.Path(directory)
    directory.mkdir()
    shutil.copytree(inputs["rootfs"], directory / "rootfs", symlinks=True)
    config = docker(directory, inputs["docker"]) if kind == "docker" else KINDS[kind](directory)
    if args:
        config["process"]["args"] = list(args)
    (directory / "config.json").write_text(json.dumps(config, indent=1))
    return directory


KINDS = {"default": default, "idmapped": idmapped, "mounts": mounts}

if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2], json.loads(pathlib.Path(sys.argv[3]).read_text()))
