# SPDX-License-Identifier: Apache-2.0
"""The upgrade: another release of the agent is fetched, checked, put on trial, and kept only if it can do its work.

It runs as a hook under its shim, so it outlives both agents: the one that began it is told to leave, the one that
comes in its place waits for it and reports it. That one is good once the API has answered its hello.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

from guest_agent import VERSION
from guest_agent.api_client import ApiClient
from guest_agent.backoff import Backoff
from guest_agent.errors import ApiError, NotMine, UpgradeError
from guest_agent.processes import having_argument, signal_all
from guest_agent.slots import Slots
from guest_agent.state_dir import find_holder, leave_stop_mark
from guest_agent.status import Status, find_status

SHA256, VERSION_INPUT, TRIAL, ALLOW_OLDER = "sha256", "version", "trial_seconds", "allow_older"
INPUTS = (SHA256, VERSION_INPUT, TRIAL, ALLOW_OLDER)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6}){0,3}")
_TRIAL_RANGE = (1.0, 3600.0)
_MARGIN = 30.0  # after which the starter of the agent judges in our place
_DOWNLOAD_PATIENCE = 600.0
_LOOK = 0.2


@dataclass(frozen=True)
class Wish:
    """What an operator orders: a release by its digest. ``version`` "" takes any; ``trial`` is in seconds."""

    sha256: str
    version: str = ""
    trial: float = 60.0
    allow_older: bool = False


def read_wish(text: str) -> Wish:
    """The wish in a task's inputs, a JSON object; UpgradeError names the input to repair."""
    try:
        inputs = json.loads(text)
    except ValueError:
        inputs = None
    if not isinstance(inputs, dict):
        raise UpgradeError('the order is a JSON object such as {"sha256": "..."}')
    given = {name: value for name, value in inputs.items() if not name.startswith("deploy_")}
    unknown = sorted(set(given) - set(INPUTS))
    if unknown:
        raise UpgradeError(f"unknown input {', '.join(unknown)}; known: {', '.join(INPUTS)}")
    sha256, version = str(given.get(SHA256) or ""), str(given.get(VERSION_INPUT) or "")
    if not _DIGEST.fullmatch(sha256):
        raise UpgradeError(f"{SHA256} is the digest of a release, 64 characters of 0-9 and a-f")
    if version and not _VERSION.fullmatch(version):
        raise UpgradeError(f"{VERSION_INPUT} is a version such as {VERSION}")
    try:
        trial = float(given.get(TRIAL) or Wish.trial)
    except (TypeError, ValueError):
        trial = -1.0
    if not _TRIAL_RANGE[0] <= trial <= _TRIAL_RANGE[1]:
        raise UpgradeError(f"{TRIAL} is a number of seconds from {_TRIAL_RANGE[0]:.0f} to {_TRIAL_RANGE[1]:.0f}")
    older = str(given.get(ALLOW_OLDER) or False).lower()
    if older not in ("true", "false"):
        raise UpgradeError(f"{ALLOW_OLDER} is true or false")
    return Wish(sha256, version, trial, older == "true")


class Upgrade:
    """One upgrade of the agent of one state directory; each step says a line on standard output."""

    def __init__(self, slots: Slots, state_dir: str, client: ApiClient, wish: Wish) -> None:
        self._slots = slots
        self._state_dir = state_dir
        self._client = client
        self._wish = wish
        self._name = f"{wish.sha256}.pyz"

    def run(self) -> None:
        """Return when the wanted release is the agent; UpgradeError when the one before it is, and why."""
        if self._slots.on_trial:
            self._slots.roll_back()
            _say("an upgrade before this one was broken off and is taken back")
        if self._slots.current == self._name and self._is_healthy():
            _say("this release is the agent already")
            return
        if self._slots.current != self._name:
            self._fetch()
            try:
                self._try_out()
            except UpgradeError:
                self._slots.tidy()
                raise
        with self._rolled_back_on_failure():
            self._slots.begin_trial(self._name, self._wish.trial + _MARGIN)
            self._end_agent()
            _say(f"the new agent is on trial for {self._wish.trial:.0f} s")
            self._judge()
            self._slots.confirm()
        _say("the API has answered its hello: it is kept, the one before it stays beside it")

    def _fetch(self) -> None:
        content = self._download()
        found = hashlib.sha256(content).hexdigest()
        if found != self._wish.sha256:
            raise UpgradeError(f"the sha256 of what the API sent is {found}, not {self._wish.sha256}: not installed")
        self._slots.add(self._name, content)
        _say(f"fetched {len(content)} bytes, the digest is the one wanted")

    def _download(self) -> bytes:
        """The bytes, of an API that may be away or ask for patience: a fleet is upgraded at once."""
        backoff, until = Backoff(random.Random()), time.monotonic() + _DOWNLOAD_PATIENCE
        while True:
            try:
                return self._client.download(self._wish.sha256)
            except ApiError as error:
                delay = backoff.failed(error.retry_after)
                if isinstance(error, NotMine) or time.monotonic() + delay > until:
                    raise UpgradeError(f"not fetched: {error}") from error
            time.sleep(delay)

    def _try_out(self) -> None:
        """The file must at least run here and tell its version, before an agent is ended for it."""
        command = [sys.executable, "-I", self._slots.path(self._name), "--version"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=60
            )
        except subprocess.TimeoutExpired:
            raise UpgradeError("it does not run on this machine: --version did not end within 60 s") from None
        version, words = done.stdout.strip(), (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode or not _VERSION.fullmatch(version):
            raise UpgradeError(f"it does not run on this machine (exit status {done.returncode}): {words[:300]}")
        if self._wish.version and version != self._wish.version:
            raise UpgradeError(f"it is version {version}, not {self._wish.version}: not installed")
        if _numbers(version) < _numbers(VERSION) and not self._wish.allow_older:
            raise UpgradeError(f"it is version {version}, older than {VERSION}; {ALLOW_OLDER} permits that")
        _say(f"it runs here and is version {version}")

    @contextlib.contextmanager
    def _rolled_back_on_failure(self) -> Iterator[None]:
        """Whatever ends the block early, a cancel too, brings the agent before back."""
        signal.signal(signal.SIGTERM, _exit)
        try:
            yield
        except BaseException:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self._slots.roll_back()
            leave_stop_mark(self._state_dir)
            signal_all(self._processes(), signal.SIGKILL)
            _say("rolled back: the agent before is started again")
            raise

    def _end_agent(self) -> None:
        """Have the agent that runs leave; what started it starts the one that is now current."""
        leave_stop_mark(self._state_dir)
        pid = find_holder(self._state_dir)
        until = time.monotonic() + 10.0
        while pid is not None and find_holder(self._state_dir) == pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGHUP if time.monotonic() < until else signal.SIGKILL)
            time.sleep(_LOOK)

    def _processes(self) -> list[int]:
        """What runs from the wanted file, the agent that holds the state directory or not."""
        found = having_argument(os.fsencode(self._slots.path(self._name)))
        status = self._find_new_status()
        return found if status is None else [*found, status.process]

    def _judge(self) -> None:
        until = time.monotonic() + self._wish.trial
        while not self._is_healthy():
            if time.monotonic() > until:
                raise UpgradeError(f"the new agent began no session in {self._wish.trial:.0f} s: {self._last_word()}")
            leave_stop_mark(self._state_dir)  # if it falls, that is not this hook's fault
            time.sleep(_LOOK)

    def _is_healthy(self) -> bool:
        """Whether the process that is the agent now was started from the wanted file, and the API answers it."""
        status = self._find_new_status()
        return status is not None and not status.last_error

    def _find_new_status(self) -> Status | None:
        """What the process that is the agent now says, None unless it was started from the wanted file."""
        status, pid = find_status(self._state_dir), find_holder(self._state_dir)
        if status is None or pid is None or (status.program, status.process) != (self._name, pid):
            return None
        return status

    def _last_word(self) -> str:
        status = find_status(self._state_dir)
        if status is not None and status.program == self._name and status.last_error:
            return status.last_error
        return "it left no word, see its log"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _exit(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)
