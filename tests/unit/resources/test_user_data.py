# SPDX-License-Identifier: Apache-2.0
"""Unit: the user_data that boots an agent, and what its author wants beside it."""

from __future__ import annotations

import base64
import email
import gzip
import json
import subprocess
import textwrap
from email.message import Message

import pytest

from heat_workflow import errors
from heat_workflow.resources.user_data import NOVA_MOST, agent_part, checked, with_author_parts
from heat_workflow.shapes import Join

AGENT = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
TOKEN = f"hwj1.{AGENT.replace('-', '')}.{'s' * 43}"
DIGEST = "ab" * 32
JOIN: Join = {
    "api_url": "https://api.example.org:8790",
    "agent_id": AGENT,
    "join_token": TOKEN,
    "ca_pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
}
CLOUD_CONFIG = "#cloud-config\nwrite_files:\n- {path: /etc/motd, content: hi}\nruncmd:\n- [touch, /done]\n"


def parts_of(user_data: str) -> list[Message]:
    """What cloud-init would find: every part that is no container."""
    message = email.message_from_string(user_data)
    return [part for part in message.walk() if not part.is_multipart()]


def content_of(part: Message) -> bytes:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return content


@pytest.fixture(scope="module")
def part() -> str:
    return agent_part(JOIN, DIGEST)


def test_the_part_is_a_shell_script_that_sh_understands(part: str) -> None:
    assert part.startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n"], input=part, text=True, check=True)


def test_the_same_join_data_gives_the_same_text_so_that_no_server_is_replaced(part: str) -> None:
    assert agent_part(JOIN, DIGEST) == part


def test_the_join_token_stands_in_the_order_on_standard_input_and_nowhere_else(part: str) -> None:
    holding = [line for line in part.splitlines() if TOKEN in line]
    assert len(holding) == 1
    assert json.loads(holding[0])["agent"]["join_token"] == TOKEN


def test_a_machine_that_trusts_the_api_by_itself_is_given_no_ca(part: str) -> None:
    order = json.loads(agent_part({**JOIN, "ca_pem": None}, DIGEST).splitlines()[-2])
    assert order["agent"]["ca_pem"] is None


@pytest.mark.parametrize("digest", ["", "ab", "AB" * 32, "../" + "a" * 61, "$(id)"])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(errors.Invalid):
        agent_part(JOIN, digest)


@pytest.mark.parametrize("nothing", [None, "", " \n", b""])
def test_an_author_who_wants_nothing_gets_the_part_alone(part: str, nothing: str | bytes | None) -> None:
    assert with_author_parts(part, nothing) == part


@pytest.mark.parametrize(
    "wanted",
    [
        CLOUD_CONFIG,
        "#!/bin/bash\necho hello\n",
        "#include\nhttps://example.org/more\n",
        "## template: jinja\n#cloud-config\nruncmd: ['{{ ds.meta_data.name }}']\n",
        "#cloud-config\nruncmd: [echo grüße, 你好]\n",
        "#!/bin/sh\nprintf 'a\\r\\n'\r\n# no newline at the end",
        "#!/bin/sh\n# --heat-workflow\n",
    ],
    ids=["cloud-config", "script", "include", "jinja", "not ascii", "carriage returns", "our boundary"],
)
def test_what_the_author_wrote_comes_after_the_part_and_unchanged(part: str, wanted: str) -> None:
    first, second = parts_of(with_author_parts(part, wanted))
    assert content_of(first).decode() == part
    assert first.get_content_type() == "text/x-shellscript"
    assert content_of(second).decode() == wanted
    assert second.get_content_type() == "text/plain", "cloud-init finds out by itself what it is"


def test_scripts_run_in_the_order_of_their_names_and_ours_is_the_first(part: str) -> None:
    first, _ = parts_of(with_author_parts(part, "#!/bin/sh\n"))
    assert str(first.get_filename()) < "part-002"


def test_of_an_authors_own_multipart_no_part_and_no_header_is_lost(part: str) -> None:
    authored = textwrap.dedent("""\
        From nobody Thu Jan  1 00:00:00 2026
        Content-Type: multipart/mixed; boundary="===="
        MIME-Version: 1.0

        --====
        Content-Type: text/cloud-config; charset="us-ascii"
        Merge-Type: list(append)+dict(recurse_array)
        Content-Disposition: attachment; filename="base.cfg"

        #cloud-config
        packages: [nginx]

        --====
        Content-Type: text/x-shellscript

        #!/bin/sh
        true

        --====--
        """)
    parts = parts_of(with_author_parts(part, authored))
    assert [each.get_content_type() for each in parts] == [
        "text/x-shellscript",
        "text/cloud-config",
        "text/x-shellscript",
    ]
    assert parts[1]["Merge-Type"] == "list(append)+dict(recurse_array)"
    assert parts[1].get_filename() == "base.cfg"
    assert content_of(parts[1]) == b"#cloud-config\npackages: [nginx]\n"
    assert content_of(parts[2]) == b"#!/bin/sh\ntrue\n"


def test_what_the_author_compressed_stays_compressed(part: str) -> None:
    packed = gzip.compress(CLOUD_CONFIG.encode(), mtime=0)
    second = parts_of(with_author_parts(part, packed))[1]
    assert second.get_content_type() == "application/gzip"
    assert content_of(second) == packed


def test_bytes_that_are_no_text_go_as_they_are(part: str) -> None:
    second = parts_of(with_author_parts(part, b"#!/bin/sh\n# \xff\n"))[1]
    assert content_of(second) == b"#!/bin/sh\n# \xff\n"


def test_no_part_of_ours_is_cloud_config_so_the_authors_lists_meet_none(part: str) -> None:
    parts = parts_of(with_author_parts(part, CLOUD_CONFIG))
    ours = [each for each in parts if content_of(each).decode() != CLOUD_CONFIG]
    assert [each.get_content_type() for each in ours] == ["text/x-shellscript"]


@pytest.mark.parametrize("version", ["2.2.0", "3.4.0"])
def test_ignition_is_refused_in_words(part: str, version: str) -> None:
    with pytest.raises(errors.Invalid, match="Ignition"):
        with_author_parts(part, json.dumps({"ignition": {"version": version}}))


def test_the_most_that_nova_takes_is_taken_and_a_byte_more_is_refused_in_words() -> None:
    most = "x" * (NOVA_MOST // 4 * 3)
    assert len(base64.b64encode(most.encode())) <= NOVA_MOST
    assert checked(most) == most
    with pytest.raises(errors.Invalid, match="65535"):
        checked(most + "x")


def test_an_author_who_writes_too_much_is_told_by_how_much(part: str) -> None:
    with pytest.raises(errors.Invalid, match=r"\d+ more than Nova takes"):
        with_author_parts(part, "#!/bin/sh\n" + "#" * 50_000)


def test_the_part_leaves_three_quarters_of_nova_s_room_to_the_author(part: str) -> None:
    assert len(base64.b64encode(part.encode())) < NOVA_MOST / 3
