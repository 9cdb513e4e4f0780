# SPDX-License-Identifier: Apache-2.0
"""The report of an attempt, composed so that its size can never keep it from being recorded."""

from __future__ import annotations

import json
from typing import Any

REPORT_LIMIT = 1_000_000
REASON_LIMIT = 1024

Report = dict[str, Any]


def failed(reason: str, code: int | None = None) -> Report:
    """The report of an attempt that ran no hook, or whose hook is lost."""
    return compose("failed", code, reason=reason)


def compose(
    status: str,
    code: int | None,
    *,
    stdout: str = "",
    stderr: str = "",
    outputs: dict[str, Any] | None = None,
    reason: str = "",
    infos: dict[str, Any] | None = None,
) -> Report:
    """The report as the API takes it, less the attempt it is for; cut until it fits."""
    report: Report = {
        "status": status,
        "deploy_status_code": code,
        "deploy_stdout": stdout,
        "deploy_stderr": stderr,
        "outputs": dict(outputs or {}),
        "reason": cut(reason) or None,
        **(infos or {}),
    }
    return _fit(report)


def cut(text: str, limit: int = REASON_LIMIT) -> str:
    """The text in at most ``limit`` bytes of UTF-8, without what JSON stores refuse."""
    clean = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace")
    if len(clean) <= limit:
        return clean.decode("utf-8")
    return clean[: limit - 3].decode("utf-8", "ignore") + "..."


def size(report: Report) -> int:
    """Its bytes on the wire."""
    return len(json.dumps(report, ensure_ascii=False).encode("utf-8", "replace"))


def _fit(report: Report) -> Report:
    """Control characters grow sixfold in JSON, so the sum is taken on the encoded text."""
    left_out: list[str] = []
    outputs = report["outputs"]
    while outputs and size(report) > REPORT_LIMIT:
        largest = max(outputs, key=lambda name: size({"": outputs[name]}))
        del outputs[largest]
        left_out.append(largest)
    if left_out:
        note = f"outputs left out, the report was too large: {', '.join(left_out)}"
        report["reason"] = cut(f"{report['reason']}; {note}" if report["reason"] else note)
    for name in ("deploy_stdout", "deploy_stderr"):
        if size(report) > REPORT_LIMIT:
            report[name] = report[name][-32768:]
            info = name.replace("deploy_", "") + "_info"
            if info in report:
                report[info] = {**report[info], "truncated": True}
    return report
