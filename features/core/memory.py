"""How much memory is left: to the machine, and within the limits of this process's groups."""

from __future__ import annotations

import os
from pathlib import Path

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory() -> int:
    """Bytes that this process may still take.

    What is free, or what the limit of a control group leaves if that is less: of a container, or of
    ``systemd-run -p MemoryMax=2G``. Caches of files count as taken.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    lines = OWN.read_text(encoding="ascii").splitlines() if OWN.is_file() else []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0":  # version 2
            root, limit, taken = CGROUPS, "memory.max", "memory.current"
        elif controllers == "memory":
            root, limit, taken = (
                CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
            )  # fmt: skip
        else:
            continue
        own = root / path.lstrip("/")
        for group in (own, *own.parents):  # a limit holds for all below
            try:
                left = int((group / limit).read_text()) - int((group / taken).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
            free = min(free, left)
    return max(free, 0)
