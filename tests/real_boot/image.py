# SPDX-License-Identifier: Apache-2.0
"""The image: a Debian root as its cloud images have it (cloud-init, systemd, python3), made once and kept."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from pathlib import Path

SUITE = "bookworm"
MIRROR = os.environ.get("DEBIAN_MIRROR", "http://deb.debian.org/debian")
PACKAGES = (
    "systemd-sysv udev dbus iproute2 python3 python3-cffi-backend cloud-init linux-image-cloud-amd64 initramfs-tools"
)
SIZE = "2G"


@dataclasses.dataclass(frozen=True)
class Image:
    """What a machine is started from. The disk is never written to."""

    disk: Path
    kernel: Path
    initrd: Path


def ensure_image(directory: Path) -> Image:
    """The image in the directory, made now if it is not there. That takes root's rights and some minutes."""
    image = Image(directory / "disk.ext4", directory / "vmlinuz", directory / "initrd.img")
    if image.disk.exists():
        return image
    if os.geteuid() != 0:
        raise PermissionError("debootstrap and chroot need root; run make test-guest as root once")
    root = directory / "root"
    shutil.rmtree(root, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    _run("debootstrap", "--variant=minbase", SUITE, str(root), MIRROR)
    _install(root)
    for name, kept in (("vmlinuz", image.kernel), ("initrd.img", image.initrd)):
        shutil.copyfile(sorted((root / "boot").glob(f"{name}-*"))[-1], kept)
    fresh = directory / "disk.new"
    fresh.unlink(missing_ok=True)
    _run("mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(root), str(fresh), SIZE)
    fresh.rename(image.disk)
    shutil.rmtree(root)
    return image


def _install(root: Path) -> None:
    """What the distribution's own cloud image holds and debootstrap does not bring."""
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    _run("chroot", str(root), "apt-get", "update", "-qq")
    _run("chroot", str(root), "apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES.split())
    _run("chroot", str(root), "apt-get", "clean")
    _run("chroot", str(root), "systemctl", "enable", "-q", "systemd-networkd")
    policy.unlink()
    (root / "etc/resolv.conf").unlink()
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text("LABEL=root / ext4 rw,discard 0 1\n")


def _run(*command: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-3000:]}")
