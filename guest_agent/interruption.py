# SPDX-License-Identifier: Apache-2.0
"""What becomes of a hook that was started and is gone without a report: its failure, a reboot, another start."""

from __future__ import annotations

import logging
from typing import Union

from guest_agent import report as reports
from guest_agent.errors import StateError
from guest_agent.runner import Runner
from guest_agent.running import Running
from guest_agent.spool import STARTED, STATE_LOST, Entry, Spool

LOG = logging.getLogger(__name__)

HOOK_LOST = "hook lost: the process that watched it on the guest was killed; it may have run in part"
REBOOTED = "interrupted by reboot: the guest was restarted while the hook ran"
POISON = "poison: the agent came down again and again while this hook ran; it is stopped"
FALLS_MOST = 3
_GRACE = 10.0
_AGAIN = ("rerun", "resume")


class Interruptions:
    """Decides by what the journal says. ``reboot_command`` restarts the machine; without one a hook that asks for a
    reboot is run again at once, for several agents on one machine have none of their own to restart."""

    def __init__(self, runner: Runner, spool: Spool, boot_id: str, reboot_command: tuple[str, ...]) -> None:
        self._runner = runner
        self._spool = spool
        self._boot_id = boot_id
        self._reboot_command = reboot_command

    def resolve(self, entry: Entry) -> Union[Running, reports.Report]:
        """The hook running once more, or the outcome. StateError while the machine is about to be restarted."""
        record = self._spool.find_started(entry.attempt)
        boot_id = str(record.get("boot_id", "")) if record else ""
        asked = bool(record and record.get("reboot"))
        if asked and boot_id == self._boot_id and self._reboot_command:
            LOG.info("%s: asked for a reboot", entry.attempt)
            self._runner.reboot(self._reboot_command)
            raise StateError(f"{entry.attempt}: waiting for the reboot it asked for")
        left = self._runner.end_orphans(entry.attempt)
        rebooted = bool(boot_id) and boot_id != self._boot_id
        again = asked or (rebooted and self._runner.on_interrupt(entry.attempt) in _AGAIN)
        boots = int(record.get("boots", 0)) + 1 if record else 1
        if again and self._runner.lay_out_again(entry.attempt, self._boot_id, boots, asked=asked):
            LOG.info("%s: started again after a reboot", entry.attempt)
            return self._runner.start(entry.attempt)
        reason = STATE_LOST if not boot_id else REBOOTED if rebooted or asked else HOOK_LOST
        if left and not rebooted and not asked:
            reason = f"{reason}; {left}"
        LOG.error("%s: %s", entry.attempt, reason)
        report = reports.failed(reason)
        self._spool.finish(entry.attempt, report)
        return report

    def stop_poison(self) -> None:
        """To be called when an agent starts that was not stopped on purpose: a hook that brought it down for the third
        time is ended and reported as failed; all others go on."""
        for entry in self._spool.entries():
            running = self._runner.find_running(entry.attempt) if entry.stage == STARTED else None
            if running is None:
                continue
            if self._runner.count_fall(entry.attempt) >= FALLS_MOST:
                LOG.error("%s: %s", entry.attempt, POISON)
                running.cancel(POISON, _GRACE, "failed")
            running.close()
