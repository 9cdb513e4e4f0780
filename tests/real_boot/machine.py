# SPDX-License-Identifier: Apache-2.0
"""The machine: qemu without hardware help, its serial console in a file, a seed that stands for Nova's metadata."""

from __future__ import annotations

import subprocess
import time
import uuid
from pathlib import Path

from tests.real_boot.image import Image

HOST = "10.0.2.2"  # the machine that runs qemu, as its guests see it; what reaches it arrives at loopback
MEMORY = "768"  # MiB


class RealMachine:
    """One boot of the image with this user_data. What it writes on its disk is forgotten at the end."""

    def __init__(self, directory: Path, image: Image, user_data: str) -> None:
        directory.mkdir(parents=True)
        self.console_log = directory / "console.log"
        self.began = time.monotonic()
        self._log = (directory / "qemu.log").open("wb")
        command = [
            *("qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", MEMORY, "-nographic", "-monitor", "none"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
            *("-append", "root=LABEL=root rw console=ttyS0"),
            *("-drive", f"file={image.disk},format=raw,if=virtio,snapshot=on"),
            *("-drive", f"file={_seed(directory, user_data)},format=raw,if=virtio,readonly=on"),
            *("-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0", "-device", "virtio-rng-pci"),
            *("-serial", f"file:{self.console_log}"),
        ]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log)

    def console(self) -> str:
        """All that the serial console has shown."""
        return self.console_log.read_text(errors="replace") if self.console_log.exists() else ""

    def lines(self) -> list[str]:
        """What of it is ours."""
        ours = [line.strip() for line in self.console().splitlines() if "heat-workflow: " in line]
        return [line[line.index("heat-workflow: ") + len("heat-workflow: ") :] for line in ours]

    def seconds(self) -> float:
        """Since it was switched on."""
        return time.monotonic() - self.began

    def off(self) -> None:
        """Pull the plug."""
        self._process.kill()
        self._process.wait()
        self._log.close()


def _seed(directory: Path, user_data: str) -> Path:
    """A NoCloud seed: a disk labelled cidata."""
    content = directory / "seed"
    content.mkdir()
    (content / "user-data").write_text(user_data)
    (content / "meta-data").write_text(f"instance-id: {uuid.uuid4()}\nlocal-hostname: guest\n")
    path = directory / "seed.iso"
    command = ["genisoimage", "-quiet", "-output", str(path), "-volid", "cidata", "-joliet", "-rock", str(content)]
    subprocess.run(command, check=True)
    return path
