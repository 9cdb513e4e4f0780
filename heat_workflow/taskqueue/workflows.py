# SPDX-License-Identifier: Apache-2.0
"""Workflows: create, find, change and delete the sets that tasks live in."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from heat_workflow import errors, model
from heat_workflow.failpoints import failpoint
from heat_workflow.model import Workflow, WorkflowState
from heat_workflow.store import Tx
from heat_workflow.taskqueue import announcing, cancelling, settling


def get_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    """The workflow, else NotFound: unknown and foreign look the same (R3)."""
    workflow = tx.find_workflow(project_id, workflow_id)
    if workflow is None:
        raise not_found(workflow_id)
    return workflow


def lock_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    workflow = tx.lock_workflow(project_id, workflow_id)
    if workflow is None:
        raise not_found(workflow_id)
    return workflow


def not_found(workflow_id: str) -> errors.NotFound:
    return errors.NotFound(f"workflow {workflow_id} is not known in this project", code="workflow-not-found")


def insert_workflow(
    tx: Tx,
    project_id: str,
    workflow_id: str | None,
    name: str,
    tags: Sequence[str],
    sealed: bool,
    on_failure: str,
    fingerprint: str,
) -> Workflow:
    workflow = Workflow(
        id=model.WorkflowId(workflow_id or str(uuid.uuid4())),
        project_id=model.ProjectId(project_id),
        name=name,
        tags=list(tags),
        state=WorkflowState.ACTIVE,
        sealed=sealed,
        on_failure=on_failure,
        fingerprint=fingerprint,
        event_seq=0,
        created_at=tx.now,
        finished_at=None,
    )
    if not tx.insert_workflow(workflow):
        if tx.find_workflow(project_id, workflow.id) is None:
            raise not_found(workflow.id)  # another project's
        raise errors.Unavailable(f"workflow {workflow.id} was made at the same moment; repeat it", retry_after=1)
    failpoint("add.workflow")
    tx.add_event(workflow.id, "workflow-active", None, {"name": name})
    return workflow


def open_for_adding(tx: Tx, project_id: str, workflow_id: str, name: str | None) -> Workflow:
    """The workflow, locked; made if ``name`` is given and it is not there; a closed one is opened again."""
    workflow = tx.lock_workflow(project_id, workflow_id)
    if workflow is None:
        if name is None:
            raise not_found(workflow_id)
        return insert_workflow(tx, project_id, workflow_id, name, [], False, "stop", "")
    return workflow


def make_room(tx: Tx, workflow: Workflow, amend: bool = False) -> None:
    """Make sure the workflow takes new tasks: Conflict if it is sealed, on its way down; a closed one opens again.

    ``amend`` is its owner's word: a sealed one takes them too, and a finished one is active again.
    """
    if workflow.sealed and not amend:
        raise errors.Conflict(f"workflow {workflow.id} is sealed: no task can be added", code="sealed")
    if workflow.state in (WorkflowState.CANCELLING, WorkflowState.UNDOING):
        raise errors.Conflict(
            f"workflow {workflow.id} is {workflow.state.value}; add tasks when it is done", code="state"
        )
    if workflow.state in model.WORKFLOW_FINISHED:
        tx.save_workflow(dataclasses.replace(workflow, state=WorkflowState.ACTIVE, finished_at=None))
        tx.add_event(workflow.id, "workflow-active", None, {"reopened": True})


def change_workflow(tx: Tx, project_id: str, workflow_id: str, changes: Mapping[str, Any]) -> Workflow:
    """The workflow with another name, tags, or what is to happen when it fails."""
    changed = dataclasses.replace(lock_workflow(tx, project_id, workflow_id), **changes)
    tx.save_workflow(changed)
    return changed


def pause_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    """Hand out no more work; what runs goes on. Repeated, it changes nothing."""
    return _switch(tx, project_id, workflow_id, WorkflowState.ACTIVE, WorkflowState.PAUSED)


def resume_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    workflow = _switch(tx, project_id, workflow_id, WorkflowState.PAUSED, WorkflowState.ACTIVE)
    for task in tx.list_tasks(workflow_id, state=model.TaskState.READY.value):
        announcing.wake_takers(tx, task)
    return workflow


def _switch(tx: Tx, project_id: str, workflow_id: str, here: WorkflowState, there: WorkflowState) -> Workflow:
    workflow = lock_workflow(tx, project_id, workflow_id)
    if workflow.state is there:
        return workflow
    if workflow.state is not here:
        raise errors.Conflict(f"workflow {workflow_id} is {workflow.state.value}, not {here.value}", code="state")
    changed = dataclasses.replace(workflow, state=there)
    tx.save_workflow(changed)
    tx.add_event(workflow.id, f"workflow-{there.value}", None, {})
    return changed


def cancel_workflow(tx: Tx, project_id: str, workflow_id: str) -> Workflow:
    """Cancel every unfinished task; the workflow is ``cancelling`` until the last agent has confirmed."""
    workflow = lock_workflow(tx, project_id, workflow_id)
    if workflow.state in model.WORKFLOW_FINISHED:
        raise errors.Conflict(f"workflow {workflow_id} is {workflow.state.value} already", code="state")
    if workflow.state is not WorkflowState.CANCELLING:
        tx.save_workflow(dataclasses.replace(workflow, state=WorkflowState.CANCELLING))
        tx.add_event(workflow.id, "workflow-cancelling", None, {})
        cancelling.cancel_all(tx, workflow, "the workflow was cancelled")
        settling.end_if_done(tx, project_id, workflow_id)
    return get_workflow(tx, project_id, workflow_id)


def delete_workflow(tx: Tx, project_id: str, workflow_id: str) -> bool:
    """Forget the workflow with all it held. While an agent still holds a task of it, cancel first and return False:
    the caller waits and repeats."""
    workflow = lock_workflow(tx, project_id, workflow_id)
    cancelling.cancel_all(tx, workflow, "the workflow was deleted")
    if tx.has_unfinished(workflow_id):
        return False
    tx.forget_events(workflow_id)
    tx.delete_workflow(workflow_id)
    tx.wake(f"workflow:{workflow_id}")
    return True
