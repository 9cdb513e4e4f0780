# SPDX-License-Identifier: Apache-2.0
"""The spool: the agent's journal on disk, so that nothing is started twice or forgotten.

An attempt goes *claimed*, *started*, *finished*, *acked*. Only the two in the middle are flushed to the disk:

* ``NAME.claimed``: written by the agent before it hands the attempt to a shim. Losing it costs nothing: the claim
  is repeated under the same ``claim_id`` and gives the same task. (That id travels in the record of the attempt
  before, so it is on the disk before the claim is sent.)
* ``NAME.started``: written by the shim, on the disk before it executes the hook. Where it is, the hook is never
  executed again; where it is not and no shim lives, the hook certainly was not executed.
* ``NAME.finished``: the report, word for word; written by the shim, or by the agent when no hook ran.
* acked: the records are removed, the report is kept aside for a day. If that is lost in a power cut the same report
  is sent once more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from dataclasses import dataclass, replace
from typing import Any

from guest_agent import report as reports
from guest_agent.errors import DamagedRecord, StateError
from guest_agent.failpoints import failpoint
from guest_agent.folder import Folder
from guest_agent.past_reports import PAST, PastReports
from guest_agent.records import Record, read_record, write_record
from guest_agent.task import Attempt

LOG = logging.getLogger(__name__)

CLAIMED = "claimed"
STARTED = "started"
FINISHED = "finished"
STATE_LOST = "agent state lost: the record of this attempt on the guest's disk was damaged"
SPACE_NEEDED = 64 * 1024 * 1024

_LAST = "last"
_DAMAGED = "damaged"


@dataclass(frozen=True)
class Entry:
    """One attempt in the journal. ``boot_id`` is that of the start ("" when the record is damaged)."""

    attempt: Attempt
    stage: str
    boot_id: str = ""

    def wire(self) -> dict[str, Any]:
        """The entry as ``hello`` tells it."""
        return {
            "task_id": self.attempt.task_id,
            "attempt": self.attempt.attempt,
            "claim_id": self.attempt.claim_id,
            "stage": self.stage,
        }


class Spool:
    """The journal of one agent; one process at a time may hold it (see ``StateDir.lock``)."""

    def __init__(self, folder: Folder, boot_id: str) -> None:
        """Read what is there; set aside what is damaged."""
        self._folder = folder
        self._boot_id = boot_id
        self._entries: dict[Attempt, Entry] = {}
        self._seq = 0
        self._carrier = _LAST
        self._next_claim_id = ""
        self._past = PastReports(folder)
        self._load()
        if not self._next_claim_id or self._is_used(self._next_claim_id):
            self.renew_claim_id()

    @property
    def next_claim_id(self) -> str:
        """The id for the next claim: the same until a task has come under it and is journaled."""
        return self._next_claim_id

    def renew_claim_id(self) -> None:
        """Take another id for the next claim: the API has closed the one we had."""
        fresh = str(uuid.uuid4())
        write_record(self._folder, _LAST, self._carried(fresh))
        self._next_claim_id, self._carrier = fresh, _LAST

    def entries(self) -> list[Entry]:
        """What is not acked yet, what is finished first."""
        return sorted(self._entries.values(), key=lambda entry: entry.stage != FINISHED)

    def find(self, attempt: Attempt) -> Entry | None:
        """The journal's entry for the attempt, or None."""
        return self._entries.get(attempt)

    def claim(self, attempt: Attempt) -> Record:
        """Journal that the attempt is ours. The record returned is the one for the shim to write as started."""
        record = self._write(attempt, CLAIMED, {"boot_id": self._boot_id}, durable=False)
        self._entries[attempt] = Entry(attempt, CLAIMED, self._boot_id)
        return record

    def unclaim(self, attempt: Attempt) -> None:
        """Take back a claim whose hook was not executed: the next claim asks for it again, under its own id."""
        self._folder.remove(f"{attempt.name}.{CLAIMED}")
        self._sweep(attempt)
        failpoint("claim.taken-back")
        self._entries.pop(attempt, None)
        self._next_claim_id = attempt.claim_id

    def was_started(self, attempt: Attempt) -> bool:
        """Whether the hook may have been executed."""
        return self._folder.has(f"{attempt.name}.{STARTED}")

    def find_started(self, attempt: Attempt) -> Record | None:
        """The record of the start as the shim last wrote it; None when it is damaged or not there."""
        try:
            return read_record(self._folder, f"{attempt.name}.{STARTED}")
        except (FileNotFoundError, DamagedRecord):
            return None

    def finish(self, attempt: Attempt, report: Record) -> None:
        """Journal the outcome of an attempt that no shim reports on. Over an outcome that is there already."""
        self._sweep(attempt)
        self._write(attempt, FINISHED, {"report": report}, durable=True)
        self._entries[attempt] = replace(self._entries.get(attempt, Entry(attempt, FINISHED)), stage=FINISHED)

    def find_report(self, attempt: Attempt) -> Record | None:
        """The report to send, or None while there is none; after damage a report that says so."""
        name = f"{attempt.name}.{FINISHED}"
        try:
            report = dict(read_record(self._folder, name)["report"])
        except FileNotFoundError:
            return None
        except (DamagedRecord, KeyError, TypeError, ValueError):
            self._set_aside(name)
            report = reports.failed(STATE_LOST)
            self.finish(attempt, report)
        self._entries[attempt] = replace(self._entries.get(attempt, Entry(attempt, FINISHED)), stage=FINISHED)
        return report

    def finish_again(self, attempt: Attempt) -> bool:
        """Journal the outcome that this attempt at the task had under an earlier claim; False when there was none.

        It comes again when the API's store went back in time: the hook is not run again, its report is sent again.
        """
        report = self._past.find_report(attempt)
        if report is None:
            return False
        self.finish(attempt, report)
        return True

    def ack(self, attempt: Attempt) -> None:
        """Forget the attempt. If its record is the newest it stays as ``last``: it holds the next claim's id."""
        self._past.keep(attempt, f"{attempt.name}.{FINISHED}")
        failpoint("report.kept")
        for stage in (STARTED, CLAIMED, FINISHED):
            name = f"{attempt.name}.{stage}"
            if self._carrier == attempt.name and self._folder.has(name):
                self._folder.rename(name, _LAST)
                self._carrier = _LAST
            else:
                self._folder.remove(name)
            failpoint("forgotten", name)
        self._entries.pop(attempt, None)

    def has_space(self) -> bool:
        """Whether the disk has room for an outcome; without it nothing is claimed."""
        facts = os.fstatvfs(self._folder.fd)
        return facts.f_bavail * facts.f_frsize >= SPACE_NEEDED

    def check_writable(self) -> None:
        """StateError when a record could not be written now."""
        if not os.access(self._folder.path, os.W_OK) or os.fstat(self._folder.fd).st_nlink == 0:
            raise StateError(f"spool {self._folder.path} is gone or cannot be written; nothing is claimed until it can")

    def close(self) -> None:
        """Give back what is held open besides the folder that it was made with; may be repeated."""
        self._past.close()

    def wipe(self) -> None:
        """Remove everything."""
        self.close()
        for name in (PAST, _DAMAGED):
            self._folder.remove_all(name)
        for name in self._folder.names():
            with contextlib.suppress(OSError):
                self._folder.remove(name)
        self._entries.clear()

    def _load(self) -> None:
        names = [name for name in self._folder.names() if name not in (_DAMAGED, PAST)]
        for name in names:
            stem, _, stage = name.rpartition(".")
            attempt = Attempt.from_name(stem)
            if name.startswith(".tmp.") and self._folder.is_file(name):
                self._folder.remove(name)
            elif name == _LAST:
                self._load_last()
            elif attempt is not None and stage in (CLAIMED, STARTED, FINISHED):
                self._load_entry(attempt, stage, name)
            else:
                LOG.warning("spool: %a is not ours, set aside", name)
                self._set_aside(name)

    def _load_last(self) -> None:
        try:
            self._carry(read_record(self._folder, _LAST), _LAST)
        except DamagedRecord as error:
            LOG.error("spool: %s", error)
            self._set_aside(_LAST)

    def _load_entry(self, attempt: Attempt, stage: str, name: str) -> None:
        """Names come sorted: claimed, finished, started; so a later stage is known when ``started`` is read."""
        known = self._entries.get(attempt)
        boot_id = known.boot_id if known else ""
        try:
            record = read_record(self._folder, name)
            self._carry(record, attempt.name)
            boot_id = str(record.get("boot_id", boot_id))
        except DamagedRecord as error:
            LOG.error("%s: %s; the attempt will not be executed again", attempt, error)
            boot_id = ""
            if stage != FINISHED:
                self._set_aside(name)
                stage = STARTED
                write_record(self._folder, f"{attempt.name}.{STARTED}", {"boot_id": ""})
        if known is not None and known.stage == FINISHED:
            stage = FINISHED
        self._entries[attempt] = Entry(attempt, stage, boot_id)

    def _write(self, attempt: Attempt, stage: str, record: Record, *, durable: bool) -> Record:
        """Write it, with the id for the next claim if the attempt has used up the one we had."""
        if attempt.claim_id == self._next_claim_id:
            self._next_claim_id, self._carrier = str(uuid.uuid4()), attempt.name
            record = {**record, **self._carried(self._next_claim_id)}
        write_record(self._folder, f"{attempt.name}.{stage}", record, durable=durable)
        return record

    def _sweep(self, attempt: Attempt) -> None:
        """Remove what a killed shim of the attempt was just writing."""
        for name in self._folder.names():
            if name.startswith(".tmp.") and attempt.name in name:
                self._folder.remove(name)

    def _is_used(self, claim_id: str) -> bool:
        """A damaged record may have held the id that came after: then the one before must not come again."""
        return any(attempt.claim_id == claim_id for attempt in self._entries)

    def _carried(self, next_claim_id: str) -> Record:
        self._seq += 1
        return {"seq": self._seq, "next_claim_id": next_claim_id}

    def _carry(self, record: Record, carrier: str) -> None:
        seq, next_claim_id = record.get("seq", 0), record.get("next_claim_id", "")
        if not isinstance(seq, int) or not isinstance(next_claim_id, str):
            raise DamagedRecord(f"{carrier}: it carries no claim id")
        if seq > self._seq:
            self._seq, self._next_claim_id, self._carrier = seq, next_claim_id, carrier

    def _set_aside(self, name: str) -> None:
        try:
            damaged = self._folder.child(_DAMAGED, create=True)
            try:
                os.rename(name, name, src_dir_fd=self._folder.fd, dst_dir_fd=damaged.fd)
            finally:
                damaged.close()
        except OSError as error:
            LOG.error("spool: %a cannot be set aside: %s", name, error.strerror)
