# SPDX-License-Identifier: Apache-2.0
"""Starts hooks and finds them again: the only place where the agent makes processes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import time

import guest_agent
from guest_agent.cgroup import Cgroup, find_cgroup
from guest_agent.errors import StateError
from guest_agent.failpoints import failpoint
from guest_agent.folder import Folder
from guest_agent.hooks.contract import OUTPUTS_FOLDER, PATH, Command, NewFile, Place
from guest_agent.order import ALIVE_PIPE, BOOTS_MOST, CONTROL_PIPE, LIMIT, ORDER_FILE, Order
from guest_agent.processes import having_in_environment, signal_all
from guest_agent.records import Record
from guest_agent.running import Running
from guest_agent.scope import leave_unit
from guest_agent.state_dir import StateDir
from guest_agent.supervision import surviving
from guest_agent.task import Attempt, Task
from guest_agent.trash import TRASH
from guest_agent.user import User

LOG = logging.getLogger(__name__)

FALLS_FILE = "falls"
UNSEEN = (
    "processes of the hook that have emptied their environment may still be running: "
    "this machine gives the agent no cgroup by which it could find them"
)
_ORPHANS_PATIENCE = 5.0
_WIPE_PATIENCE = 60.0

_FRESH_ZYGOTE = (
    "import socket, sys; sys.path.insert(0, sys.argv[1]); from guest_agent import zygote; "
    "zygote.serve(socket.socket(fileno=int(sys.argv[2])))"
)


class Runner:
    """Prepares run directories and has the zygote fork shims for them."""

    def __init__(
        self,
        state: StateDir,
        zygote: tuple[int, socket.socket] | None = None,
        search_path: str = PATH,
        file_size: int = 0,
    ) -> None:
        """Without a ``zygote`` a fresh one is executed when the first hook starts.

        ``search_path`` is PATH for hooks, ``file_size`` the most bytes one file of theirs may have, 0 for any number.
        """
        self._state = state
        self._search_path = search_path
        self._file_size = file_size
        self.zygote_pid: int = zygote[0] if zygote else 0
        self._zygote: socket.socket | None = zygote[1] if zygote else None
        self._fresh: subprocess.Popen[bytes] | None = None
        self._left: set[str] = set()  # run directories that cannot even be moved

    def place(self, attempt: Attempt) -> Place:
        """Where the attempt will run."""
        return Place(os.path.join(self._state.run.path, attempt.run_name), self._search_path)

    def lay_out(self, task: Task, command: Command, started: Record) -> None:
        """Make the run directory with all a shim needs. Nothing runs yet, so it may be repeated."""
        name = task.attempt.run_name
        self._state.trash.throw(self._state.run, name)
        folder = self._state.run.child(name, create=True)
        try:
            order = Order.of(task, command, self._state.spool.path, started, self._file_size)
            failpoint("run.made")
            folder.child(OUTPUTS_FOLDER, create=True).close()
            for pipe in (ALIVE_PIPE, CONTROL_PIPE):
                os.mkfifo(pipe, 0o600, dir_fd=folder.fd)
            for file in command.files:
                _put(file, folder)
            if order.user is not None:
                self._hand_over(folder, command, order.user)
            folder.create(ORDER_FILE, order.encode())
        finally:
            folder.close()
        if order.on_interrupt != "fail":
            os.sync()  # the order is needed again after a power cut

    def lay_out_again(self, attempt: Attempt, boot_id: str, boots: int, *, asked: bool) -> bool:
        """Prepare the attempt's next start after a reboot; False when it may have none, or its order is lost.

        Outputs written before stay if the hook resumes, or asked for the reboot itself.
        """
        try:
            folder = self._state.run.child(attempt.run_name)
        except OSError:
            return False
        try:
            order = Order.decode(folder.read(ORDER_FILE, LIMIT))
            if boots > BOOTS_MOST:
                return False
            if order.on_interrupt != "resume" and not asked:
                self._renew_outputs(folder, order.user)
            again = order.again(boot_id, boots, resume=order.on_interrupt == "resume")
            folder.replace(ORDER_FILE, again.encode(), durable=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            LOG.error("%s: cannot be started again: %s", attempt, error)
            return False
        finally:
            folder.close()
        return True

    def on_interrupt(self, attempt: Attempt) -> str:
        """What the author wants after a reboot: fail, rerun or resume; fail when that is lost."""
        try:
            folder = self._state.run.child(attempt.run_name)
            try:
                return Order.decode(folder.read(ORDER_FILE, LIMIT)).on_interrupt
            finally:
                folder.close()
        except (OSError, ValueError, KeyError, TypeError):
            return "fail"

    def reboot(self, command: tuple[str, ...]) -> None:
        """Have the machine restarted; StateError when it cannot be."""
        try:
            subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=60, env={"PATH": PATH})
        except (OSError, subprocess.SubprocessError) as error:
            raise StateError(f"{command[0]}: the machine cannot be restarted: {error}") from error

    def count_fall(self, attempt: Attempt) -> int:
        """The agent came down while the hook ran: how often that was so far. A fall that cannot be written down, on a
        full disk or in a directory the hook has spoilt, is the first."""
        try:
            folder = self._state.run.child(attempt.run_name)
            try:
                falls = len(folder.read(FALLS_FILE, 100)) + 1 if folder.has(FALLS_FILE) else 1
                folder.replace(FALLS_FILE, b"x" * falls, durable=False)
            finally:
                folder.close()
        except OSError as error:
            LOG.warning("%s: the agent's fall is not counted: %s", attempt, error.strerror)
            return 1
        return falls

    def _hand_over(self, folder: Folder, command: Command, user: User) -> None:
        """Let the user reach its own files and write its outputs, and nothing else: the way to them shows no names."""
        for above in (self._state.root, self._state.run, folder):
            os.fchmod(above.fd, 0o711)
        for name in [file.name for file in command.files if not file.directory]:
            os.chown(name, user.uid, user.gid, dir_fd=folder.fd, follow_symlinks=False)
        os.chown(OUTPUTS_FOLDER, user.uid, user.gid, dir_fd=folder.fd, follow_symlinks=False)

    def _renew_outputs(self, folder: Folder, user: User | None) -> None:
        if not self._state.trash.throw(folder, OUTPUTS_FOLDER):
            raise OSError("what an earlier start left as outputs cannot be removed")
        folder.child(OUTPUTS_FOLDER, create=True).close()
        if user is not None:
            os.chown(OUTPUTS_FOLDER, user.uid, user.gid, dir_fd=folder.fd, follow_symlinks=False)

    def start(self, attempt: Attempt) -> Running:
        """Have the hook of a laid out attempt executed. Never for an attempt the journal shows as started."""
        folder = self._state.run.child(attempt.run_name)
        ours = os.open(ALIVE_PIPE, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
        theirs = os.open(ALIVE_PIPE, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder.fd)
        try:
            self._request(os.fsencode(folder.path), theirs)
            failpoint("zygote.asked")
        finally:
            os.close(theirs)
        return Running(attempt, folder, ours)

    def find_running(self, attempt: Attempt) -> Running | None:
        """The attempt's hook if its shim lives, else None: only a living shim holds the pipe open for writing."""
        try:
            folder = self._state.run.child(attempt.run_name)
        except OSError:
            return None
        try:
            alive = os.open(ALIVE_PIPE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder.fd)
        except OSError:
            folder.close()
            return None
        try:
            os.read(alive, 1)
        except BlockingIOError:
            return Running(attempt, folder, alive)
        except OSError as error:
            LOG.error("%s: what is in the place of its pipe is none: %s", attempt, error.strerror)
        os.close(alive)
        folder.close()
        return None

    def end_orphans(self, attempt: Attempt) -> str:
        """Kill what a hook whose shim is gone has left, so that it cannot meet its own next attempt.

        All of it where it has a cgroup, else what still has the environment it was given. What may be left, in words.
        """
        cgroup = find_cgroup(attempt.run_name)
        until = time.monotonic() + _ORPHANS_PATIENCE
        while orphans := self._find_orphans(attempt, cgroup):
            if time.monotonic() > until:
                return surviving(orphans, cgroup)
            LOG.warning("%s: kills %d processes whose shim is gone", attempt, len(orphans))
            if cgroup is not None:
                cgroup.kill()
            signal_all(orphans, signal.SIGKILL)
            time.sleep(0.02)
        if cgroup is None:
            return UNSEEN
        cgroup.remove()
        return ""

    def _find_orphans(self, attempt: Attempt, cgroup: Cgroup | None) -> list[int]:
        found = set(having_in_environment(b"HW_RUN=" + attempt.run_name.encode()))
        return sorted(found.union(cgroup.pids() if cgroup else ()))

    def discard(self, attempt: Attempt) -> None:
        """Have the run directory with the inputs in it removed; may be repeated. No error comes of what the hook left:
        what cannot be removed now is tried again by ``tidy``."""
        self._let_go(attempt.run_name)
        self._state.trash.empty()

    def discard_others(self, attempts: list[Attempt]) -> None:
        """The same for all attempts but these."""
        known = {TRASH, *(attempt.run_name for attempt in attempts)}
        for name in self._state.run.names():
            if name not in known:
                self._let_go(name)
        self._state.trash.empty()

    def tidy(self) -> bool:
        """Go on removing what earlier calls could not; whether there is more that only needs time."""
        if self._state.trash.tend():
            for name in list(self._left):
                self._let_go(name)
        return self._state.trash.is_behind

    def wipe(self) -> None:
        """Remove every run directory, for as long as it takes within reason: nobody comes back for the rest."""
        self.discard_others([])
        self._state.trash.empty(_WIPE_PATIENCE)

    def _let_go(self, name: str) -> None:
        if self._state.trash.put(self._state.run, name):
            self._left.discard(name)
        else:
            self._left.add(name)

    def _request(self, message: bytes, alive: int) -> None:
        if self._zygote is not None:
            try:
                socket.send_fds(self._zygote, [message], [alive])
                return
            except OSError:
                LOG.warning("zygote %d was gone, made a new one", self.zygote_pid)
                self._zygote.close()
        self._zygote = self._fresh_zygote()
        socket.send_fds(self._zygote, [message], [alive])

    def _fresh_zygote(self) -> socket.socket:
        """A zygote in a new interpreter: this process has threads and secrets, it must not be forked."""
        self._reap()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        home = os.path.dirname(os.path.dirname(os.path.abspath(guest_agent.__file__)))
        with theirs:
            self._fresh = subprocess.Popen(
                [sys.executable, "-I", "-c", _FRESH_ZYGOTE, home, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd="/",
            )
        self.zygote_pid = self._fresh.pid
        leave_unit(self.zygote_pid)
        return ours

    def _reap(self) -> None:
        if self._fresh is not None:
            self._fresh.wait()
        elif self.zygote_pid:
            os.waitpid(self.zygote_pid, 0)

    def close(self) -> None:
        """Let the zygote end and wait for it; hooks go on."""
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
            self._reap()


def _put(file: NewFile, run: Folder) -> None:
    data = file.text.encode("utf-8", "surrogateescape")
    if not file.directory:
        run.create(file.name, data, file.mode)
        return
    os.makedirs(file.directory, mode=0o700, exist_ok=True)
    folder = Folder(file.directory)
    try:
        folder.replace(file.name, data, durable=False, mode=file.mode)
    finally:
        folder.close()
