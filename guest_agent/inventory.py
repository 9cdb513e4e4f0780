# SPDX-License-Identifier: Apache-2.0
"""What the agent tells about the machine it runs on."""

from __future__ import annotations

import os
import platform
import socket


def get_inventory() -> dict[str, str]:
    """Host name, operating system, Python, kernel."""
    return {
        "hostname": socket.gethostname()[:255],
        "os": _os_name(),
        "python": platform.python_version(),
        "kernel": os.uname().release,
    }


def find_hw_uuid() -> str | None:
    """The machine's DMI uuid, or None where there is none or it may not be read."""
    try:
        with open("/sys/class/dmi/id/product_uuid", encoding="ascii") as file:
            return file.read(64).strip().lower() or None
    except (OSError, UnicodeDecodeError):
        return None


def _os_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as file:
            for line in file:
                if line.startswith("PRETTY_NAME="):
                    return line.partition("=")[2].strip().strip("\"'")
    except (OSError, UnicodeDecodeError):
        pass
    return platform.system()
