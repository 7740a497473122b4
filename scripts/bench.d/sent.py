#!/usr/bin/env python3
"""Prints the runtime config that an engine sends for an image: containerd's, which has Docker's capabilities,
devices, paths and seccomp profile.

use: sent.py IMAGE.tar NAME      below `apart`
"""
import subprocess, sys, tempfile

from containerd import containerd

with tempfile.TemporaryDirectory(dir="/dev/shm") as place, containerd(place):
    def ctr(*words):
        return subprocess.run(["ctr", "-a", f"{place}/socket", *words], check=True, capture_output=True, text=True).stdout
    ctr("images", "import", sys.argv[1])
    ctr("containers", "create", "--seccomp", sys.argv[2], "sent")
    print(ctr("containers", "info", "--spec", "sent"))
    ctr("containers", "rm", "sent")
