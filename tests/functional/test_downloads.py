# SPDX-License-Identifier: Apache-2.0
"""The agent's file: served by its digest to anybody, for ever, and nothing beside it."""

from __future__ import annotations

import hashlib
import http.client
import threading
from pathlib import Path

import pytest
import requests

from heat_workflow.api import limits
from heat_workflow.releases import Releases
from tests.harness.callers import Operator, new_id
from tests.harness.servers import RELEASED, ApiProcess

SHA256 = hashlib.sha256(RELEASED).hexdigest()


def get(api: ApiProcess, name: str) -> requests.Response:
    return requests.get(f"{api.url}/agent/v1/agent/{name}", timeout=30)


def test_a_release_is_served_without_a_token_and_may_be_kept_for_ever(api: ApiProcess) -> None:
    answer = get(api, f"{SHA256}.pyz")
    assert (answer.status_code, answer.content) == (200, RELEASED)
    assert answer.headers["Content-Length"] == str(len(RELEASED))
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["ETag"] == f'"{SHA256}"'
    assert {"public", "immutable"} <= set(answer.headers["Cache-Control"].split(", "))


def test_an_older_release_stays_served_when_a_newer_one_is_current(api: ApiProcess) -> None:
    newer = Releases(api.agents).add(b"a newer agent")
    try:
        assert get(api, f"{newer}.pyz").content == b"a newer agent"
        assert get(api, f"{SHA256}.pyz").content == RELEASED
    finally:
        Releases(api.agents).make_current(SHA256)


def test_an_unknown_release_is_404_and_the_answer_names_those_there_are(api: ApiProcess) -> None:
    answer = get(api, f"{'0' * 64}.pyz")
    assert answer.status_code == 404
    assert SHA256 in answer.json()["errors"][0]["detail"]


@pytest.mark.parametrize(
    "name",
    [
        "..%2f..%2fheat-workflow.conf",
        "../heat-workflow.conf",
        "%2e%2e/heat-workflow.conf.pyz",
        "..%2fheat-workflow.conf%00.pyz",
        f"{SHA256}.pyz%00",
        f"{SHA256.upper()}.pyz",
        f"{SHA256}%0a.pyz",
        f"./{SHA256}",
        "current",
        "current.pyz",
        "%ff.pyz",
        "",
    ],
)
def test_nothing_but_a_digest_names_a_file(api: ApiProcess, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    connection.request("GET", f"/agent/v1/agent/{name}")  # as it stands: requests would tidy the path up
    answer = connection.getresponse()
    assert answer.status in (400, 404), answer.read()
    connection.close()


def test_a_link_out_of_the_directory_is_reached_by_no_name_but_a_digest(api: ApiProcess, tmp_path: Path) -> None:
    (api.agents / "outside.pyz").symlink_to(tmp_path)
    try:
        assert get(api, "outside.pyz").status_code == 404
    finally:
        (api.agents / "outside.pyz").unlink()


def test_a_registration_names_the_release_that_a_new_machine_gets(operator: Operator) -> None:
    registered = operator.call("PUT", f"/v1/agents/{new_id()}", json={"name": "a"}).json()
    assert registered["agent_sha256"] == SHA256
    rejoined = operator.call("POST", f"/v1/agents/{registered['id']}/rejoin").json()
    assert rejoined["agent_sha256"] == SHA256


def test_without_a_release_a_registration_names_none_and_404_says_what_to_do(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite", {"agents_dir": str(tmp_path / "none")})
    api.start()
    try:
        registered = Operator(api.url).call("PUT", f"/v1/agents/{new_id()}", json={"name": "a"}).json()
        assert registered["agent_sha256"] is None
        assert "heat-workflow-manage agent build" in get(api, f"{SHA256}.pyz").json()["errors"][0]["detail"]
    finally:
        api.stop()


def test_a_flood_from_one_address_is_held_off_and_told_when_to_come_back(tmp_path: Path) -> None:
    api = ApiProcess(tmp_path, f"sqlite:///{tmp_path}/store.sqlite", {"trusted_proxies": "127.0.0.1"})
    api.start()
    try:
        answers: list[requests.Response] = []

        def flood() -> None:
            with requests.Session() as session:
                session.headers["X-Forwarded-For"] = "192.0.2.1"
                for _ in range(10 * limits.DOWNLOADS.burst):
                    answers.append(session.get(f"{api.url}/agent/v1/agent/{SHA256}.pyz", timeout=30))
                    if answers[-1].status_code != 200:
                        return

        floods = [threading.Thread(target=flood) for _ in range(5)]
        for each in floods:
            each.start()
        for each in floods:
            each.join()
        refused = [answer for answer in answers if answer.status_code == 429]
        assert len(refused) == len(floods)
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
        assert sum(answer.status_code == 200 for answer in answers) >= limits.DOWNLOADS.burst
        elsewhere = requests.get(
            f"{api.url}/agent/v1/agent/{SHA256}.pyz", timeout=30, headers={"X-Forwarded-For": "192.0.2.2"}
        )
        assert elsewhere.status_code == 200
    finally:
        api.stop()
