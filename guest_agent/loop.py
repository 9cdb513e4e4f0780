# SPDX-License-Identifier: Apache-2.0
"""The agent's one loop: hello, claim, run, report; after a failure wait and go on where it was."""

from __future__ import annotations

import errno
import logging
import time
from typing import Any, Callable

from guest_agent import report as reports
from guest_agent.api_client import ApiClient
from guest_agent.backoff import Backoff
from guest_agent.config import Config
from guest_agent.errors import (
    AgentError,
    ApiError,
    Conflict,
    NotMine,
    Refused,
    Revoked,
    StateError,
    Unauthenticated,
    Unreachable,
)
from guest_agent.failpoints import failpoint
from guest_agent.heartbeat import LEAST_INTERVAL, Heartbeat
from guest_agent.hooks import Hooks
from guest_agent.hooks.contract import Command
from guest_agent.identity import Identity
from guest_agent.interruption import Interruptions
from guest_agent.log_sender import LogSender
from guest_agent.preparation import prepare
from guest_agent.runner import Runner
from guest_agent.running import Running
from guest_agent.session import CLAIM_OVER, IDENTITY_IN_USE, SUPERSEDED, Session, begin_session
from guest_agent.spool import FINISHED, Entry, Spool
from guest_agent.status import StatusFile
from guest_agent.task import Attempt, Task, read_attempt

LOG = logging.getLogger(__name__)

ROTATE_REQUIRED = "rotate-required"
IDLE_PAUSE = 1.0
_IN_THE_WAY = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EACCES, errno.EPERM)


class Loop:
    """One agent, one task at a time. Everything it must remember is in the spool, so it may be killed anywhere."""

    def __init__(
        self,
        *,
        client: ApiClient,
        identity: Identity,
        spool: Spool,
        runner: Runner,
        hooks: Hooks,
        status: StatusFile,
        backoff: Backoff,
        reload_config: Callable[[], Config],
        interruptions: Interruptions,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._identity = identity
        self._spool = spool
        self._runner = runner
        self._hooks = hooks
        self._status = status
        self._backoff = backoff
        self._reload_config = reload_config
        self._interruptions = interruptions
        self._sleep = sleep
        self._session: Session | None = None
        self._running: dict[Attempt, Running] = {}
        self._cut_down: set[Attempt] = set()
        self._taken_back: set[Attempt] = set()

    def run(self) -> None:
        """Work until the agent is revoked; then everything it knew is wiped."""
        self._runner.discard_others([entry.attempt for entry in self._spool.entries()])
        while True:
            try:
                self._step()
            except Revoked as error:
                self._wipe(error)
                return
            except Unauthenticated as error:
                self._on_unauthenticated(error)
            except (ApiError, StateError, OSError) as error:
                self._pause(error)

    def _step(self) -> None:
        if self._session is None:
            self._session = self._hello()
            return
        self._identity.rotate_if_due(self._client)
        entries = self._spool.entries()
        if entries:
            self._settle(entries[0], self._session)
        else:
            self._claim(self._session)

    def _hello(self) -> Session:
        session = begin_session(self._client, self._identity, self._spool.entries())
        self._succeeded("wait for a task")
        LOG.info("agent %s: session begun", self._identity.agent_id)
        return session

    def _claim(self, session: Session) -> None:
        """Wait for a task and take it."""
        self._check_space()
        wait = min(session.max_wait, IDLE_PAUSE) if self._runner.tidy() else session.max_wait
        asked = time.monotonic()
        try:
            wire = self._client.claim(self._spool.next_claim_id, wait, self._identity.nonce)
        except Conflict as error:
            self._on_claim_conflict(error)
            return
        self._succeeded("wait for a task")
        if wire is not None:
            self._take(wire)
        else:
            self._sleep(max(0.0, IDLE_PAUSE - (time.monotonic() - asked)))

    def _on_claim_conflict(self, error: Conflict) -> None:
        """A claim the API has closed (its answer was lost before a hello) is made under a new id at once."""
        if error.code == CLAIM_OVER:
            LOG.info("claim %s is over, claiming under a new id", self._spool.next_claim_id)
            self._spool.renew_claim_id()
            return
        if error.code != SUPERSEDED:
            self._session = None
        raise error

    def _take(self, wire: dict[str, Any]) -> None:
        """Journal a task handed out and start its hook; one the journal knows is never started again."""
        failpoint("claim.answered")
        try:
            attempt = read_attempt(wire)
        except AgentError as error:
            raise Unreachable(f"claim: {error}") from error
        if self._spool.find(attempt) is not None:
            LOG.warning("%s: handed out again, it is in the journal already", attempt)
            return
        if self._spool.finish_again(attempt):
            LOG.warning("%s: handed out again, it was run before: its report is sent again", attempt)
            return
        prepared = prepare(attempt, wire, self._hooks, self._runner.place(attempt))
        if isinstance(prepared, tuple):
            self._start(*prepared)
        else:
            self._spool.finish(attempt, prepared)

    def _start(self, task: Task, command: Command) -> None:
        """Hand the attempt to a shim. Killed anywhere in here the agent finds out afterwards which step it was."""
        started = self._spool.claim(task.attempt)
        try:
            self._runner.lay_out(task, command, started)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            LOG.error("%s: cannot be laid out: %s", task.attempt, error)
            reason = f"not started: something is in the way of a file it needs: {error.strerror}"
            self._spool.finish(task.attempt, reports.failed(reason, 126))
            return
        failpoint("hook.laid-out")
        self._running[task.attempt] = self._runner.start(task.attempt)
        failpoint("hook.handed-over")
        LOG.info("%s: started, group %s", task.attempt, task.group)

    def _settle(self, entry: Entry, session: Session) -> None:
        """Bring one journaled attempt to its end: wait for its hook, send its report, forget it."""
        if entry.stage != FINISHED:
            self._wait_for_hook(entry, session)
        report = self._spool.find_report(entry.attempt)
        if report is None and not self._spool.was_started(entry.attempt):
            self._take_back(entry.attempt)
            return
        if report is None:
            outcome = self._interruptions.resolve(entry)
            if isinstance(outcome, Running):
                self._running[entry.attempt] = outcome
                return
            report = outcome
        self._send(entry.attempt, report)

    def _wait_for_hook(self, entry: Entry, session: Session) -> None:
        running, first = self._running.pop(entry.attempt, None), min(LEAST_INTERVAL, session.heartbeat_interval)
        if running is None:
            running, first = self._runner.find_running(entry.attempt), 0.0
        if running is None:
            return
        self._status.contact(f"wait for the hook of {entry.attempt}")
        with (
            Heartbeat(
                self._client,
                entry.attempt,
                interval=session.heartbeat_interval,
                first=first,
                stop=running.cancel,
                contact=self._status.contact,
                rotate=self._identity.rotate_if_due,
            ) as heartbeat,
            LogSender(self._client, entry.attempt, running.log_reader()),
        ):
            running.wait()
        failpoint("hook.over")
        running.close()
        if heartbeat.revoked:
            raise Revoked("revoked while a hook ran")

    def _take_back(self, attempt: Attempt) -> None:
        """Claim an attempt again whose hook was not executed (killed just then); StateError when it happens twice."""
        self._spool.unclaim(attempt)
        if attempt in self._taken_back:
            raise StateError(f"{attempt}: its hook could not be started; it is claimed again")
        self._taken_back.add(attempt)
        LOG.warning("%s: its hook was not executed; it is claimed again", attempt)

    def _send(self, attempt: Attempt, report: reports.Report) -> None:
        """Report, with the next claim; go on at once if that brings a task."""
        wire = None
        claim_id = self._spool.next_claim_id if self._spool.has_space() else None
        try:
            wire = self._client.report(attempt, report, claim_id)
            failpoint("report.answered")
            LOG.info("%s: %s, reported", attempt, report["status"])
        except (Conflict, NotMine) as error:
            if isinstance(error, Conflict) and error.code in (IDENTITY_IN_USE, SUPERSEDED, CLAIM_OVER):
                self._on_claim_conflict(error)
                return
            LOG.warning("%s: report dropped, the API has another outcome: %s", attempt, error)
        except Refused as error:
            if not self._give_in(attempt, error):
                return
        finally:
            self._runner.discard(attempt)
        failpoint("run.discarded")
        self._spool.ack(attempt)
        failpoint("report.acked")
        self._cut_down.discard(attempt)
        self._taken_back.discard(attempt)
        self._succeeded("wait for a task")
        if wire is not None:
            self._take(wire)

    def _give_in(self, attempt: Attempt, error: Refused) -> bool:
        """A report the API will never take: send a bare failure in its place once; True when that failed as well."""
        if attempt in self._cut_down:
            LOG.error("%s: no report is accepted, given up: %s", attempt, error)
            return True
        LOG.error("%s: report refused: %s", attempt, error)
        self._cut_down.add(attempt)
        self._spool.finish(attempt, reports.failed(f"the API refused the report of this attempt: {error}"))
        return False

    def _check_space(self) -> None:
        self._spool.check_writable()
        if not self._spool.has_space():
            raise StateError("less than 64 MiB are free for the spool; nothing is claimed until there is room")

    def _on_unauthenticated(self, error: Unauthenticated) -> None:
        """Rotate if that is all the API wants; else try older secrets, then look for a new join token, then wait."""
        self._session = None
        if error.code == ROTATE_REQUIRED:
            self._identity.rotate_now(self._client)
            self._pause(error)
            return
        if self._identity.fall_back():
            LOG.warning("agent %s: secret refused, trying the one before it", self._identity.agent_id)
            return
        try:
            if self._identity.take_new_join_token(self._reload_config()):
                LOG.info("agent %s: found a new join token", self._identity.agent_id)
                return
        except AgentError as unreadable:
            LOG.warning("%s", unreadable)
        self._pause(error)

    def _succeeded(self, next_step: str) -> None:
        self._backoff.succeeded()
        self._status.contact(next_step)

    def _pause(self, error: Exception) -> None:
        delay = self._backoff.failed(getattr(error, "retry_after", None))
        LOG.warning("%s; next try in %.1f s", error, delay)
        self._status.trouble(str(error), f"try again, {delay:.0f} s after the error")
        self._sleep(delay)

    def _wipe(self, error: Revoked) -> None:
        LOG.error("agent %s: revoked, wiped and stopped: %s", self._identity.agent_id, error)
        self._identity.wipe()
        self._spool.wipe()
        self._runner.wipe()
        self._hooks.forget()
        self._status.end(str(error), "none: the agent was revoked and has wiped itself")
