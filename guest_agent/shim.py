# SPDX-License-Identifier: Apache-2.0
"""The shim: a small process that outlives the agent, runs one hook and puts its report into the spool."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from typing import Any

from guest_agent import processes
from guest_agent.errors import AgentError
from guest_agent.failpoints import failpoint
from guest_agent.folder import Folder
from guest_agent.hooks import get_verdict
from guest_agent.hooks.contract import OUTPUTS_FOLDER, Exit
from guest_agent.order import BOOTS_MOST, LIMIT, ORDER_FILE, REBOOT_STATUS, Order
from guest_agent.output_types import as_declared
from guest_agent.outputs import read_outputs
from guest_agent.records import Record, write_record
from guest_agent.report import Report, compose, failed
from guest_agent.shutdown import is_cut_off, outlast_agent
from guest_agent.spool import FINISHED, STARTED
from guest_agent.supervision import Ending, Supervision

RESERVE_FILE = "reserve"
REPORT_SPACE = 1_100_000  # a report at its largest, as a record
_RETRY = 1.0


def run_shim(run_path: str, alive: int) -> None:
    """Run the order that lies in ``run_path``. The report is on the disk when ``alive`` is closed.

    That the hook is started is on the disk before it is; when that cannot be written the hook is not executed.
    To be called in a process of its own, just forked. It goes on as long as something the hook left running holds
    its pipes, because a closed pipe would kill that.
    """
    failpoint("shim.born")
    _detach()
    failpoint("shim.detached")
    run = Folder(run_path)
    order = Order.decode(run.read(ORDER_FILE, LIMIT))
    _journal(order, STARTED, order.started)
    try:
        _reserve(run)
        supervision = Supervision(order, run)
    except OSError as error:
        _hand_in(order, run, _not_started(error))
        os.close(alive)
        return
    failpoint("shim.hook-up")
    ending = supervision.run_to_end()
    failpoint("shim.hook-over")
    if _wants_reboot(order, ending):
        failpoint("shim.reboot-wanted")
        _insist(order, STARTED, {**order.started, "reboot": True})
        failpoint("shim.reboot-journaled")
        return
    if not ending.stopped and is_cut_off(ending.code):
        outlast_agent(alive)
        return
    _hand_in(order, run, _conclude(order, run, supervision, ending))
    os.close(alive)
    supervision.drain()


def _hand_in(order: Order, run: Folder, report: Report) -> None:
    failpoint("shim.concluded")
    with contextlib.suppress(OSError):
        run.remove(RESERVE_FILE)
    _insist(order, FINISHED, {"report": report})


def _reserve(run: Folder) -> None:
    """Hold the disk space of the report, lest the hook uses it up; OSError when there is not as much."""
    fd = os.open(RESERVE_FILE, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=run.fd)
    try:
        os.posix_fallocate(fd, 0, REPORT_SPACE)
    finally:
        os.close(fd)


def _detach() -> None:
    """Leave the agent's session and streams; a signal meant for the agent does not reach the hook's keeper."""
    os.setsid()
    os.umask(0o077)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for target in (0, 1, 2):
        os.dup2(null, target)
    os.close(null)
    processes.adopt_orphans()


def _wants_reboot(order: Order, ending: Ending) -> bool:
    """Whether the hook asks to be run again after a reboot, and has not done so too often."""
    return ending.code == REBOOT_STATUS and not ending.stopped and not order.answers and order.boots < BOOTS_MOST


def _conclude(order: Order, run: Folder, supervision: Supervision, ending: Ending) -> Report:
    """The report of a hook that ran, whatever it has written."""
    try:
        return _judge(order, run, supervision, ending)
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError) as error:
        words = f"the hook ended, and what it has written cannot be judged: {type(error).__name__}"
        return failed(words, ending.code or 1)


def _judge(order: Order, run: Folder, supervision: Supervision, ending: Ending) -> Report:
    outputs, problems = _take_outputs(order, run)
    stdout, stderr = supervision.stdout, supervision.stderr
    notes = [*problems, *order.notes]
    infos = {"stdout_info": stdout.info(), "stderr_info": stderr.info()}
    if ending.stopped:
        if ending.survivors:
            notes.insert(0, ending.survivors)
        return compose(
            ending.stopped,
            ending.code,
            stdout=stdout.text(),
            stderr=stderr.text(),
            outputs=outputs,
            reason="; ".join(filter(None, [ending.why, ending.said and f"it last said: {ending.said}", *notes])),
            infos=infos,
        )
    code = ending.code if ending.code is not None else 127
    answer = stdout.whole() if order.answers else b""
    ended = Exit(code, stdout.text(), stderr.text(), outputs, order.outputs, answer, order.hint)
    verdict = get_verdict(order.hook)(ended)
    typed, wrong = as_declared(order.outputs, verdict.outputs)
    told = [*_error_outputs(order, verdict.outputs), *wrong]
    return compose(
        "succeeded" if verdict.succeeded and not told else "failed",
        verdict.code,
        stdout=verdict.stdout,
        stderr=verdict.stderr,
        outputs=typed,
        reason="; ".join(filter(None, [*told, verdict.reason, *notes])),
        infos=infos,
    )


def _take_outputs(order: Order, run: Folder) -> tuple[dict[str, str], list[str]]:
    """What the hook left as outputs; that it has spoilt their folder takes nothing from how it ended."""
    try:
        folder = run.child(OUTPUTS_FOLDER)
    except OSError as error:
        words = f"outputs left out: the hook has removed their folder or put something in its place ({error.strerror})"
        return {}, [words] if order.outputs else []
    try:
        return read_outputs(folder, order.outputs, order.user.uid if order.user else os.geteuid())
    finally:
        folder.close()


def _error_outputs(order: Order, outputs: dict[str, Any]) -> list[str]:
    """What the hook itself calls an error: a value for an output declared with ``error_output``."""
    return [
        output.name if output.hidden else f"{output.name} : {outputs[output.name]}"
        for output in order.outputs
        if output.error_output and output.name in outputs
    ]


def _not_started(error: OSError) -> Report:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return failed("not started: the program, or the interpreter its first line names, is not on this machine", 127)
    return failed(f"not started: {error.strerror or type(error).__name__}", 126)


def _insist(order: Order, stage: str, record: Record) -> None:
    """Put the record on the disk; with a full or failing disk keep trying: what it says exists only here."""
    while True:
        try:
            _journal(order, stage, record)
            return
        except (OSError, AgentError):
            time.sleep(_RETRY)


def _journal(order: Order, stage: str, record: Record) -> None:
    spool = Folder(order.spool)
    try:
        write_record(spool, f"{order.attempt.name}.{stage}", record)
    finally:
        spool.close()
