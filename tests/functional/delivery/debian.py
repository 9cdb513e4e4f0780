# SPDX-License-Identifier: Apache-2.0
"""Debian 13's own Python with its own OpenSSL, in a root of its own: from where this machine has its packages."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

PACKAGES = (
    *("python3.13-minimal", "libpython3.13-minimal", "libpython3.13-stdlib", "libssl3t64", "libc6", "zlib1g", "dash"),
    *("libexpat1", "libffi8", "liblzma5", "libbz2-1.0", "libuuid1", "libgcc-s1", "libzstd1", "libcrypt1", "coreutils"),
    *("libselinux1", "libpcre2-8-0", "libacl1", "libattr1", "libgmp10", "libcap2", "libsystemd0"),
)
_WRAPPER = """#!/bin/sh
exec unshare --mount sh -c '
    for place in proc dev sys {shared}; do mkdir -p {root}/$place && mount --rbind /$place {root}/$place || exit 1; done
    exec chroot {root} /usr/bin/python3.13 "$@"' sh "$@"
"""


def make_python(directory: Path) -> str:
    """An executable that is Debian 13's python3.13 and sees the directories that tests use. CalledProcessError when its
    packages are not to be had."""
    root = directory / "root"
    for name in ("lists/partial", "cache/archives/partial", "packages", "root"):
        (directory / name).mkdir(parents=True)
    (directory / "sources").write_text(f"deb {_archive()} trixie main\n")
    places = {
        "Dir::Etc::sourcelist": "sources",
        "Dir::Etc::sourceparts": "none",
        "Dir::State::lists": "lists",
        "Dir::Cache": "cache",
    }
    options = [f"-o{name}={directory / place}" for name, place in places.items()]
    quick = ["-oAcquire::http::Timeout=20", "-oAcquire::Retries=1", "-oAPT::Sandbox::User=root"]
    for command in (["update", "--error-on=any"], ["download", *PACKAGES]):
        _run(["apt-get", *options, *quick, *command], directory / "packages")
    for package in (directory / "packages").glob("*.deb"):
        _run(["dpkg", "-x", str(package), str(root)], directory)
    for name in ("lib", "lib64", "bin"):
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    if not (root / "usr/bin/sh").exists():
        (root / "usr/bin/sh").symlink_to("dash")
    wrapper = directory / "python3.13"
    wrapper.write_text(_WRAPPER.format(root=shlex.quote(str(root)), shared=tempfile.gettempdir().strip("/")))
    wrapper.chmod(0o755)
    return str(wrapper)


def _archive() -> str:
    """Where this machine gets Debian from."""
    ask = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
    sites = _run(ask, Path("/")).split()
    return next(site for site in sites if site.rstrip("/").endswith("/debian"))


def _run(command: list[str], where: Path) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(command, cwd=where, check=True, capture_output=True, text=True, timeout=300, env=environment)
    return done.stdout
