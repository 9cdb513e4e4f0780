# SPDX-License-Identifier: Apache-2.0
"""First boot: the shell-script part run by sh, from nothing to a running agent, and what stops it (S47, S48, S49)."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from devcloud.settings import Settings
from heat_workflow.cmd.agent_archive import build_agent
from heat_workflow.resources.user_data import Layout, agent_part
from heat_workflow.shapes import Join
from tests.functional.delivery.bare import BareGuest, is_main
from tests.functional.delivery.files import Files, make_certificates, serving
from tests.functional.delivery.pythons import NAMES, interpreter
from tests.functional.delivery.test_archive import run_a_task
from tests.harness.callers import Operator
from tests.harness.machine import is_alive, processes_of, wait_for

NOBODY: Join = {
    "api_url": "",
    "agent_id": str(uuid.UUID(int=1)),
    "join_token": f"hwj1.{uuid.UUID(int=1).hex}.{'j' * 43}",
    "ca_pem": None,
}


@pytest.fixture
def files() -> Iterator[Files]:
    with serving() as made:
        yield made


def test_from_nothing_to_a_task_done_with_a_line_for_every_step(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    assert [line.partition(":")[0] for line in guest.lines()] == [
        f"agent {join['agent_id']}",
        "download",
        "digest",
        "enrolled",
    ]
    assert guest.conf.stat().st_mode & 0o777 == 0o600
    assert join["join_token"] not in guest.console.read_text()
    secret = join["join_token"].encode()
    for pid in processes_of(f"MARK={guest.mark}"):
        assert secret not in Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()


def test_run_twice_it_changes_nothing_and_starts_no_second_agent(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    before = {path: path.read_bytes() for path in guest.home.iterdir()}
    (agent,) = [pid for pid in guest.agents() if is_main(pid)]
    guest.boot(join, release)
    run_a_task(operator)
    wait_for(lambda: len([pid for pid in guest.agents() if is_main(pid)]) == 1)
    assert is_alive(agent)
    assert {path: path.read_bytes() for path in guest.home.iterdir()} == before
    assert [line for line in guest.lines() if "enrolled" in line] == guest.lines()[3:4]


def test_an_agent_that_was_killed_is_started_again(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    (agent,) = [pid for pid in guest.agents() if is_main(pid)]
    os.kill(agent, signal.SIGKILL)
    run_a_task(operator)


def test_after_a_reboot_without_systemd_the_agent_is_back(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    per_boot = Path(guest.layout.per_boot)
    per_boot.mkdir()
    guest.boot(join, release)
    run_a_task(operator)
    guest.end()
    guest.boot_again()
    run_a_task(operator)
    assert len([line for line in guest.lines() if "enrolled" in line]) == 1


def test_a_refused_join_token_is_told_on_the_console(guest: BareGuest, join: Join, release: str) -> None:
    wrong = join["join_token"][:-4] + "AAAA"
    guest.boot({**join, "join_token": wrong}, release)
    guest.says("refused: ")
    assert wrong not in guest.console.read_text()


def test_s49_other_bytes_are_not_installed(guest: BareGuest, files: Files) -> None:
    files.content = b"something else"
    wanted = hashlib.sha256(b"the agent").hexdigest()
    guest.boot({**NOBODY, "api_url": files.url}, wanted)
    guest.says(f"digest: sha256 is {hashlib.sha256(files.content).hexdigest()}, not {wanted}: not installed")
    assert not list(guest.home.glob("*.pyz"))
    assert not guest.state.exists()


def test_s49_an_older_release_in_place_of_the_one_wanted_is_not_installed(guest: BareGuest, files: Files) -> None:
    files.content = build_agent()
    guest.boot({**NOBODY, "api_url": files.url}, hashlib.sha256(b"newer").hexdigest())
    guest.says("not installed")
    assert not list(guest.home.glob("*.pyz"))


def test_s49_half_a_file_is_not_installed_and_the_whole_one_later_is(guest: BareGuest, files: Files) -> None:
    files.content, files.missing = build_agent(), 1000
    digest = hashlib.sha256(files.content).hexdigest()
    guest.boot({**NOBODY, "api_url": files.url}, digest)
    guest.says("download: broken off")
    assert not list(guest.home.glob("*.pyz"))
    files.missing = 0
    wait_for(lambda: (guest.home / "current.pyz").resolve().name == f"{digest}.pyz")


def test_s49_where_the_file_will_lie_is_no_way_to_another_file(guest: BareGuest, files: Files, tmp_path: Path) -> None:
    files.content = b"whatever"
    digest = hashlib.sha256(files.content).hexdigest()
    precious = tmp_path / "precious"
    precious.write_text("precious")
    guest.home.mkdir(mode=0o755)
    for name in (f"{digest}.pyz", f"{digest}.pyz.new", ".current.pyz", "current.pyz"):
        (guest.home / name).symlink_to(precious)
    guest.boot({**NOBODY, "api_url": files.url}, digest)
    guest.says("digest: ")
    wait_for(lambda: (guest.home / "current.pyz").readlink() == Path(f"{digest}.pyz"))
    assert precious.read_text() == "precious"
    assert not (guest.home / f"{digest}.pyz").is_symlink()


def test_s49_a_file_that_was_changed_since_is_fetched_anew(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    guest.end()
    installed = guest.home / f"{release}.pyz"
    good = installed.read_bytes()
    installed.write_bytes(good[:-1] + b"x")
    guest.boot(join, release)
    run_a_task(operator)
    assert installed.read_bytes() == good


def test_s49_an_installed_agent_runs_on_when_the_one_wanted_is_not_to_be_had(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    guest.end()
    guest.boot(join, "0" * 64)
    run_a_task(operator)
    assert (guest.home / "current.pyz").readlink() == Path(f"{release}.pyz")


def test_s48_a_redirect_is_not_followed(guest: BareGuest, files: Files) -> None:
    with serving() as elsewhere:
        elsewhere.content = build_agent()
        files.redirect = f"{elsewhere.url}/agent.pyz"
        guest.boot({**NOBODY, "api_url": files.url}, hashlib.sha256(elsewhere.content).hexdigest())
        guest.says("is answered with 302")
        assert elsewhere.asked == []
    assert not any("authorization" in headers for _, headers in files.asked)


def test_s47_no_other_authority_than_the_one_given_is_trusted_whatever_the_environment_says(
    guest: BareGuest, tmp_path: Path
) -> None:
    ours, theirs = make_certificates(tmp_path / "ours"), make_certificates(tmp_path / "theirs")
    with serving(theirs) as files:
        join: Join = {**NOBODY, "api_url": files.url, "ca_pem": ours.ca_file.read_text()}
        guest.boot(join, "0" * 64, SSL_CERT_FILE=str(theirs.ca_file), REQUESTS_CA_BUNDLE=str(theirs.ca_file))
        guest.says("TLS: 127.0.0.1: ")
        assert files.asked == []


def test_s47_a_proxy_in_the_environment_is_not_asked(guest: BareGuest, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "ours")
    with serving(certificates) as files, serving() as proxy:
        files.content = b"x"
        join: Join = {**NOBODY, "api_url": files.url, "ca_pem": files.ca_pem}
        guest.boot(join, "0" * 64, https_proxy=proxy.url, HTTPS_PROXY=proxy.url, all_proxy=proxy.url)
        guest.says("TLS: 127.0.0.1 has a good certificate")
        guest.says("not installed")
        assert proxy.asked == []


@pytest.fixture
def plain_authority(tmp_path: Path) -> Settings:
    """An authority and a certificate as two lines of openssl make them: without keyUsage, without key identifiers."""
    made = make_certificates(tmp_path / "plain")
    ca = f"-keyout ca.key -out {made.ca_file} -days 30 -subj /CN=ca"
    sign = f"openssl x509 -req -CA {made.ca_file} -CAkey ca.key -CAcreateserial -days 30 -extfile names"
    for command in (
        f"openssl req -x509 -newkey rsa:2048 -nodes {ca}",
        "echo subjectAltName=IP:127.0.0.1 > names",
        f"openssl req -newkey rsa:2048 -nodes -keyout {made.api_key} -subj /CN=api | {sign} > {made.api_certificate}",
    ):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True, capture_output=True)
    return made


@pytest.mark.parametrize("version", NAMES)
def test_f53_a_plain_private_authority_is_good_for_first_boot_and_agent_under_each_python(
    version: str, guest: BareGuest, plain_authority: Settings
) -> None:
    _boot_with(plain_authority, guest, interpreter(version))


def test_f53_a_plain_private_authority_is_good_for_first_boot_and_agent_of_debian_13(
    debian_13: str, guest: BareGuest, plain_authority: Settings
) -> None:
    _boot_with(plain_authority, guest, debian_13)


def _boot_with(authority: Settings, guest: BareGuest, python: str) -> None:
    guest.python = python
    with serving(authority) as files:
        files.content = build_agent()
        join: Join = {**NOBODY, "api_url": files.url, "ca_pem": files.ca_pem}
        guest.boot(join, hashlib.sha256(files.content).hexdigest())
        guest.says("TLS: 127.0.0.1 has a good certificate")
        guest.says("is the one wanted")
        guest.says("not enrolled: heat-workflow-agent: POST enroll: 501")  # by TLS, from something that is no API
        assert not [line for line in guest.lines() if "TLS: " in line and "good certificate" not in line]


def test_s47_plain_http_to_another_machine_is_refused(guest: BareGuest) -> None:
    guest.boot({**NOBODY, "api_url": "http://192.0.2.1:8790"}, "0" * 64)
    guest.says("is not https")


def test_s50_an_agent_in_a_directory_that_others_can_write_is_not_run(
    guest: BareGuest, join: Join, release: str, operator: Operator
) -> None:
    guest.boot(join, release)
    run_a_task(operator)
    guest.end()
    guest.console.write_text("")
    # Only the directory above: the part sets the rights of its own.
    above = guest.home.parent
    above.chmod(0o777)
    guest.boot(join, release)
    guest.says("can be changed by others")
    assert not guest.agents()
    above.chmod(0o755)
    run_a_task(operator)


def test_an_image_without_python_says_so_on_the_console(guest: BareGuest, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("cat", "chmod", "mkdir", "mv", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    part = agent_part({**NOBODY, "api_url": "https://192.0.2.1"}, "0" * 64, guest.layout)
    done = subprocess.run([str(tools / "sh")], input=part, text=True, env={"PATH": str(tools)}, check=False)
    assert done.returncode == 1
    assert guest.lines() == ["not set up: no python3 of 3.9 or newer in this image"]


def test_the_standard_layout_is_that_of_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[3] / "doc" / "source" / "admin" / "delivery.rst").read_text()
    for place in dataclasses.asdict(Layout()).values():
        assert place in page, place
