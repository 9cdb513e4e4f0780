# SPDX-License-Identifier: Apache-2.0
"""A real boot: stock Debian, cloud-init and systemd, from the user_data of a Heat resource to the outputs of a Task.

Run by ``make test-guest``. On a quiet machine a boot under plain emulation takes about a minute.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devcloud.cloud import DevCloud
from devcloud.stacks import Stack, Stacks
from heat_workflow.resources.user_data import with_author_parts
from tests.harness.agent_releases import add_release
from tests.real_boot.image import Image, ensure_image
from tests.real_boot.machine import HOST, RealMachine

PATIENCE = float(os.environ.get("GUEST_PATIENCE", "1500"))  # seconds; other work on the machine slows emulation down
KEPT = Path(os.environ.get("GUEST_DIR", ".guest")).resolve()
pytestmark = pytest.mark.timeout(2 * PATIENCE)

AUTHOR = textwrap.dedent("""\
    Content-Type: multipart/mixed; boundary="author"
    MIME-Version: 1.0

    --author
    Content-Type: text/cloud-config; charset="us-ascii"

    #cloud-config
    write_files:
    - path: /etc/author
      content: "written by the author\\n"
    runcmd:
    - [sh, -c, "echo ran >/etc/author-ran"]

    --author
    Content-Type: text/x-shellscript; charset="us-ascii"

    #!/bin/sh
    echo scripted >/etc/author-scripted
    --author--
    """)
LOOK = """\
#!/bin/sh
for each in $(seq 300); do test -e /etc/author-ran && break; sleep 1; done
cat /etc/author >$heat_outputs_path.written
cat /etc/author-ran >$heat_outputs_path.ran
cat /etc/author-scripted >$heat_outputs_path.scripted
systemctl is-active heat-workflow-agent >$heat_outputs_path.unit
python3 --version >$heat_outputs_path.python
grep -ls 'hwj1[.]' /proc/[0-9]*/cmdline /proc/[0-9]*/environ >$heat_outputs_path.tokens || true
"""
# The unit is restarted under the hook that asks for it; KillMode is systemd's default, which ends the whole unit.
OUTLIVE = """\
#!/bin/sh
before=$(systemctl show -P MainPID heat-workflow-agent)
systemctl restart heat-workflow-agent
after=$(systemctl show -P MainPID heat-workflow-agent)
test "$before" != "$after" && echo restarted >$heat_outputs_path.said
"""
# No word of ours: the machine goes down under the hook, systemd ends it with SIGTERM, and the next boot runs it again.
REBOOT = """\
#!/bin/sh
cat /proc/sys/kernel/random/boot_id >>/var/lib/boots
if [ "$(wc -l </var/lib/boots)" = 1 ]; then systemctl reboot; sleep 600; fi
sort -u /var/lib/boots | wc -l >$heat_outputs_path.boots
"""


def task(script: str, *outputs: str, after: str | None = None, **properties: Any) -> dict[str, Any]:
    definition = {"group": "script", "config": script, "outputs": [{"name": name} for name in outputs]}
    own = {"definition": definition, "server": {"get_resource": "agent"}, **properties}
    return {"type": "OS::HeatWorkflow::Task", "properties": own, **({"depends_on": after} if after else {})}


# After the agent has put another release in its own place: what systemd runs now.
STARTED = """\
#!/bin/sh
tr '\\0' ' ' </proc/$(systemctl show -P MainPID heat-workflow-agent)/cmdline >$heat_outputs_path.command
"""
NEWER = "99.1.0"
TRIAL = 600  # seconds; emulation is slow


LOOKED = ("written", "ran", "scripted", "unit", "python", "tokens")
TEMPLATE = {
    "heat_template_version": "2021-04-16",
    "parameters": {"release": {"type": "string"}},
    "resources": {
        "agent": {"type": "OS::HeatWorkflow::Agent", "properties": {"name": "guest"}},
        "look": task(LOOK, *LOOKED),
        "outlive": task(OUTLIVE, "said", after="look"),
        "upgrade": {
            "type": "OS::HeatWorkflow::Task",
            "depends_on": "outlive",
            "properties": {
                "definition": {"group": "heat-workflow-agent", "config": ""},
                "server": {"get_resource": "agent"},
                "input_values": {"sha256": {"get_param": "release"}, "version": NEWER, "trial_seconds": TRIAL},
            },
        },
        "started": task(STARTED, "command", after="upgrade"),
        "reboot": task(REBOOT, "boots", after="started", on_interrupt="rerun"),
    },
    "outputs": {
        "looked": {"value": {"get_attr": ["look", "outputs"]}},
        "outlived": {"value": {"get_attr": ["outlive", "said"]}},
        "command": {"value": {"get_attr": ["started", "command"]}},
        "boots": {"value": {"get_attr": ["reboot", "boots"]}},
    },
}


@pytest.fixture(scope="module")
def image() -> Image:
    return ensure_image(KEPT)


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCloud]:
    """A devcloud whose machines are ours to boot, and that guests under qemu can reach."""
    with DevCloud(tmp_path_factory.mktemp("devcloud"), agents=False, guest_host=HOST) as cloud:
        yield cloud


@pytest.fixture
def newer(cloud: DevCloud) -> str:
    """The digest of a release newer than the one the machine boots with."""
    current = cloud.releases.find_current()
    assert current is not None
    return add_release(cloud.releases, current, NEWER, {})


@pytest.fixture
def stack(cloud: DevCloud, newer: str) -> Iterator[Stack]:
    stacks = Stacks(cloud.session())
    yield stacks.create("guest", TEMPLATE, parameters={"release": newer}, wait=False, timeout_mins=60)
    stacks.delete_all()


def user_data_of(stack: Stack) -> str:
    stack.wait_until(lambda: stack.resource("agent").resource_status == "CREATE_COMPLETE")
    made = stack.resource("agent", "user_data").attributes["user_data"]
    assert isinstance(made, str)
    return made


def test_a_stock_image_boots_enrolls_and_runs_a_task_and_nothing_of_the_author_is_lost(
    image: Image, stack: Stack, tmp_path: Path, cloud: DevCloud, newer: str
) -> None:
    machine = RealMachine(tmp_path / "guest", image, with_author_parts(user_data_of(stack), AUTHOR))
    try:
        stack.wait(PATIENCE)
    except BaseException:
        print(machine.console()[-8000:])
        raise
    finally:
        print(f"\n{machine.seconds():.0f} s after power on; on the console:", *machine.lines(), sep="\n  ")
        machine.off()
    looked = stack.outputs["looked"]
    assert (looked["written"], looked["ran"], looked["scripted"]) == ("written by the author\n", "ran\n", "scripted\n")
    assert looked["unit"] == "active\n"
    assert looked["tokens"] == "", "no process has the join token in its command line or environment"
    assert stack.outputs["outlived"] == "restarted\n"
    assert f"/{newer}.pyz run" in stack.outputs["command"]
    assert stack.outputs["boots"] == "2\n"
    steps = [line.partition(":")[0] for line in machine.lines()]
    assert [step for step in steps if not step.startswith("agent")] == ["TLS", "download", "digest", "enrolled"]
    assert str(cloud.releases.find_current()) in "".join(machine.lines())
