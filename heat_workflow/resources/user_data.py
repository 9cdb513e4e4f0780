# SPDX-License-Identifier: Apache-2.0
"""User data: what a stock cloud image is booted with so that it joins as an agent, beside what its author wants.

Pure functions: the same join data gives the same text, and so the same server.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import json
import re

from heat_workflow import errors
from heat_workflow.shapes import Join

NOVA_MOST = 65535  # characters of base64 that Nova takes
NO_RELEASE = (
    "the tasks API has no agent that a server could fetch; have its operator run heat-workflow-manage agent build, "
    "then update the stack"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_END = "HEAT-WORKFLOW-END"
_PLAIN = re.compile(r"[\t\n\r\x20-\x7e]*")
_GZIP = b"\x1f\x8b"

_PART = """\
#!/bin/sh
# heat-workflow: installs the agent, checks it, enrolls it, starts it. It may run again.
umask 077
for python in python3 python3.13 python3.12 python3.11 python3.10 python3.9; do
    python=$(command -v "$python") && "$python" -I -c 'import sys; sys.exit(sys.version_info < (3, 9))' && break
    python=
done 2>/dev/null
if [ -z "$python" ]; then
    said="heat-workflow: not set up: no python3 of 3.9 or newer in this image"
    echo "$said" >{console} || echo "$said" >&2
    exit 1
fi
mkdir -p {home} && chmod 755 {home} && cat >{home}/first_boot.py.new <<'{end}' || exit 1
{program}{end}
mv -f {home}/first_boot.py.new {home}/first_boot.py && exec "$python" -I {home}/first_boot.py setup <<'{end}'
{order}
{end}
"""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where things lie in the guest. ``units`` and ``per_boot`` are systemd's and cloud-init's directories."""

    home: str = "/opt/heat-workflow"
    conf: str = "/etc/heat-workflow/agent.conf"
    state_dir: str = "/var/lib/heat-workflow"
    console: str = "/dev/console"
    log: str = "/var/log/heat-workflow-agent.log"
    units: str = "/etc/systemd/system"
    per_boot: str = "/var/lib/cloud/scripts/per-boot"


STANDARD = Layout()


def agent_part(join: Join, agent_sha256: str | None, layout: Layout = STANDARD) -> str:
    """One shell script, user_data by itself, that makes the machine it runs in the agent of ``join``.

    It needs python3 and sh. The agent is fetched from the API and run only if its sha256 is ``agent_sha256``. The join
    token is in this text and from there in a file of mode 0600, in no command line. ``errors.Invalid`` when the API has
    no release of the agent to give.
    """
    if agent_sha256 is None:
        raise errors.Invalid(NO_RELEASE)
    if not _DIGEST.fullmatch(agent_sha256):
        raise errors.Invalid(f"{agent_sha256!r} is not the sha256 of an agent")
    settings = {**join, "state_dir": layout.state_dir}
    order = {
        "agent": settings,
        "plan": {**dataclasses.asdict(layout), "sha256": agent_sha256},
        "unit": _text("agent.service"),
    }
    return _PART.format(
        home=layout.home,
        console=layout.console,
        program=_text("first_boot.py"),
        order=json.dumps(order, sort_keys=True),
        end=_END,
    )


def with_author_parts(part: str, author_user_data: str | bytes | None) -> str:
    """The part and, after it, everything the template's author wants the machine to be booted with, unchanged.

    What cloud-init takes is taken: a script, cloud-config, MIME of any depth, includes, gzip. The part shares no
    cloud-config key with the author, so that cloud-init has nothing to merge. ``errors.Invalid`` says what cannot be
    done: Ignition, or more than Nova takes.
    """
    if not (author_user_data or b"").strip():
        return checked(part)
    assert author_user_data is not None
    _refuse_ignition(author_user_data)
    bodies = [_attachment(part, "text/x-shellscript", "000-heat-workflow-agent"), _author_part(author_user_data)]
    boundary = _boundary(bodies)
    joined = "".join(f"--{boundary}\n{body}\n" for body in bodies)
    head = f'Content-Type: multipart/mixed; boundary="{boundary}"\nMIME-Version: 1.0\n\n'
    return checked(f"{head}{joined}--{boundary}--\n")


def checked(user_data: str) -> str:
    """The same text; ``errors.Invalid`` when Nova would not take it."""
    size = len(base64.b64encode(user_data.encode()))
    if size > NOVA_MOST:
        raise errors.Invalid(
            f"user_data with the agent in it is {size} bytes as base64, {size - NOVA_MOST} more than Nova takes "
            f"({NOVA_MOST}); leave large files out of it and have a Task write them, or let it #include a URL"
        )
    return user_data


def _author_part(said: str | bytes) -> str:
    """As cloud-init would see it alone: MIME stays as it is, of the rest cloud-init itself finds out what it is."""
    if isinstance(said, bytes):
        if said.startswith(_GZIP):
            return _attachment(said, "application/gzip")
        try:
            said = said.decode()
        except UnicodeDecodeError:
            return _attachment(said, "application/octet-stream")
    if "mime-version:" in said[:4096].lower():
        return said.partition("\n")[2] if said.startswith("From ") else said
    return _attachment(said, "text/plain")


def _attachment(content: str | bytes, kind: str, name: str = "") -> str:
    """One part of a multipart message; what is not plain ASCII goes as base64, for cloud-init garbles it else."""
    lines = [f"Content-Type: {kind}; charset=utf-8" if isinstance(content, str) else f"Content-Type: {kind}"]
    lines.append("MIME-Version: 1.0")
    if name:
        lines.append(f'Content-Disposition: attachment; filename="{name}"')
    if isinstance(content, str) and _PLAIN.fullmatch(content):
        return "\n".join([*lines, "Content-Transfer-Encoding: 7bit", "", content])
    raw = content.encode() if isinstance(content, str) else content
    return "\n".join([*lines, "Content-Transfer-Encoding: base64", "", base64.encodebytes(raw).decode()])


def _boundary(bodies: list[str]) -> str:
    """A line that is in none of the bodies, always the same for the same bodies."""
    boundary = "heat-workflow"
    while any(boundary in body for body in bodies):
        boundary = f"heat-workflow-{hashlib.sha256((boundary + ''.join(bodies)).encode()).hexdigest()[:24]}"
    return boundary


def _refuse_ignition(said: str | bytes) -> None:
    try:
        found = json.loads(said)
    except (ValueError, RecursionError):
        return
    if isinstance(found, dict) and "ignition" in found:
        raise errors.Invalid(
            "user_data is an Ignition config: the agent cannot be added to it. Boot an image that has cloud-init, or "
            "take user_data_format RAW and install the agent with an OS::HeatWorkflow::Agent's join data"
        )


def _text(name: str) -> str:
    return (importlib.resources.files("heat_workflow.resources") / name).read_text(encoding="utf-8")
