"""How much memory is left: to the machine, and within the limits of this process's groups."""

from __future__ import annotations

from pathlib import Path

import psutil

CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def free_memory() -> int:
    """Bytes that this process may still take.

    What is free, or what the limit of a control group leaves if that is less: of a container, or of
    ``systemd-run -p MemoryMax=2G``. Caches of files count as taken.
    """
    free: int = psutil.virtual_memory().free
    lines = OWN.read_text(encoding="ascii").splitlines() if OWN.is_file() else []
    for number, controllers, path in (line.split(":", 2) for line in lines):
        if number == "0":  # version 2
            root, limit, taken = CGROUPS, "memory.max", "memory.current"
        elif controllers == "memory":
            root, limit = CGROUPS / "memory", "memory.limit_in_bytes"
            taken = "memory.usage_in_bytes"
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
