# SPDX-License-Identifier: Apache-2.0
"""The interpreters that this machine has of those an agent may meet in a guest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

VERSIONS = [(3, minor) for minor in range(9, 14)]


def find_pythons() -> dict[str, str]:
    """Version -> interpreter: on the PATH, below ~/.pyenv, and the one that runs the tests."""
    found = {f"3.{sys.version_info.minor}": sys.executable}
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for major, minor in VERSIONS:
        name = f"{major}.{minor}"
        of_pyenv = sorted(pyenv.glob(f"{name}.*/bin/python{name}"))
        for interpreter in (*map(str, of_pyenv), shutil.which(f"python{name}")):
            if interpreter is not None and name not in found and _runs(interpreter):
                found[name] = interpreter
    return found


def _runs(interpreter: str) -> bool:
    """Whether it starts: pyenv's shims stand for versions that are not there."""
    return subprocess.run([interpreter, "-I", "-c", ""], capture_output=True, check=False).returncode == 0


PYTHONS = find_pythons()
NAMES = [f"{major}.{minor}" for major, minor in VERSIONS]


def interpreter(version: str) -> str:
    """The interpreter of that version; the test is skipped, in words, where the machine has none."""
    if version not in PYTHONS:
        pytest.skip(f"this machine has no Python {version} (looked on the PATH and below ~/.pyenv): not tried under it")
    return PYTHONS[version]
