# SPDX-License-Identifier: Apache-2.0
"""Reports: whatever is in them, they fit (G7)."""

from __future__ import annotations

from guest_agent.report import REASON_LIMIT, REPORT_LIMIT, compose, cut, failed, size


def test_what_fits_is_untouched() -> None:
    report = compose("succeeded", 0, stdout="out", stderr="err", outputs={"a": "x" * 1000})
    assert (report["deploy_stdout"], report["deploy_stderr"], report["outputs"]) == ("out", "err", {"a": "x" * 1000})
    assert report["reason"] is None


def test_outputs_that_grow_too_large_in_json_are_left_out_and_named() -> None:
    report = compose("succeeded", 0, outputs={"small": "x", "large": "\x01" * 262144}, reason="because")
    assert report["outputs"] == {"small": "x"}
    assert report["reason"] == "because; outputs left out, the report was too large: large"
    assert size(report) <= REPORT_LIMIT


def test_streams_that_grow_too_large_in_json_are_cut() -> None:
    info = {"total_bytes": 65536, "sha256": "0" * 64, "truncated": False}
    infos = {"stdout_info": info, "stderr_info": info}
    outputs = {"a": "x" * 262144}
    report = compose("failed", 1, stdout="\x01" * 65536, stderr="\x02" * 120000, outputs=outputs, infos=infos)
    assert size(report) <= REPORT_LIMIT
    assert report["stdout_info"]["truncated"] is True


def test_a_reason_is_cut_to_its_limit_without_tearing_a_character() -> None:
    assert len(cut("€" * 1000).encode()) <= REASON_LIMIT
    assert cut("€" * 1000).endswith("€...")
    assert failed("a\0b")["reason"] == "a\N{REPLACEMENT CHARACTER}b"
