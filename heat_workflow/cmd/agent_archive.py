# SPDX-License-Identifier: Apache-2.0
"""Agent archive: the agent as one file, guest_agent with requests and what that needs, the same bytes at every build.

Nothing of it depends on when, where or by whom it is built: entries are sorted, stored uncompressed and dated alike.
Only Python source goes in, so that it runs wherever Python 3.9 or newer does.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from heat_workflow import errors

OLDEST_PYTHON = (3, 9)
MOST = 3 * 1024 * 1024
_LIBRARIES = ("requests", "urllib3", "idna", "charset_normalizer")
_LEFT_OUT = ("urllib3/contrib/",)  # other platforms
_WHEN = (1980, 1, 1, 0, 0, 0)

_MAIN = '''\
"""The agent's door in the archive: the standard library and this file are all that is ever imported."""

import os
import sys

if not sys.flags.isolated:
    os.execv(sys.executable, [sys.executable, "-I", *sys.argv])
sys.path[1:] = [path for path in sys.path[1:] if not path.endswith(("site-packages", "dist-packages"))]

from guest_agent.main import main

if __name__ == "__main__":
    sys.exit(main())
'''
# requests asks this for the CAs to trust where the settings name none: those of the machine itself.
_CERTIFI = '''\
"""The CA certificates that this machine trusts, where its distribution keeps them."""

import os

_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def where():
    return next((place for place in _PLACES if os.path.exists(place)), _PLACES[0])
'''


def build_agent() -> bytes:
    """The archive's bytes. errors.Invalid when a library here would not run on the oldest Python of the guests."""
    entries = {"__main__.py": _MAIN.encode(), "certifi/__init__.py": _CERTIFI.encode()}
    entries.update(_sources("guest_agent"))
    versions = {"python": ".".join(map(str, OLDEST_PYTHON))}
    for library in _LIBRARIES:
        distribution = importlib.metadata.distribution(library)
        _refuse_newer_python(distribution)
        versions[library] = distribution.version
        entries.update(_sources(library))
        entries.update(_licences(library, distribution))
    entries["release.json"] = json.dumps(versions, indent=1, sort_keys=True).encode()
    return _archive(entries)


def _archive(entries: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, _WHEN)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    if len(content.getvalue()) > MOST:
        raise errors.TooLarge(f"the agent would be {len(content.getvalue())} bytes, more than {MOST}")
    return content.getvalue()


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    """Every Python file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise errors.Invalid(f"{package} is not installed here, so no agent can be built")
    root = Path(spec.origin).parent
    for path in root.rglob("*.py"):
        name = f"{package}/{path.relative_to(root).as_posix()}"
        if not name.startswith(_LEFT_OUT):
            yield name, path.read_bytes()


def _licences(library: str, distribution: importlib.metadata.Distribution) -> Iterator[tuple[str, bytes]]:
    for file in distribution.files or ():
        if re.match(r"(LICEN[CS]E|NOTICE)", file.name) and ".dist-info" in str(file):
            yield f"licenses/{library}/{file.name}", file.read_binary()


def _refuse_newer_python(distribution: importlib.metadata.Distribution) -> None:
    needed = re.search(r">=\s*(\d+)\.(\d+)", distribution.metadata["Requires-Python"] or "")
    if needed and (int(needed[1]), int(needed[2])) > OLDEST_PYTHON:
        raise errors.Invalid(
            f"{distribution.name} {distribution.version} needs Python {needed[1]}.{needed[2]}, guests may have "
            f"{'.'.join(map(str, OLDEST_PYTHON))}: install an older one, as constraints.txt names it"
        )
