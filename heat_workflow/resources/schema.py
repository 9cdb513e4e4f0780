# SPDX-License-Identifier: Apache-2.0
"""Schema: the properties and attributes of a task in HOT, with their help, which is the user manual."""

from __future__ import annotations

from typing import Any

from heat.common.i18n import _
from heat.engine import attributes, constraints, properties
from heat.engine import software_config_io as swc_io
from heat.engine.resources.openstack.heat import software_deployment

_Stock = software_deployment.SoftwareDeployment
_Schema = properties.Schema

CONFIG, SERVER, INPUT_VALUES, ACTIONS, NAME, SIGNAL_TRANSPORT = _Stock.PROPERTIES
DEFINITION, CAPABILITIES, WORKFLOW = "definition", "capabilities", "workflow"
TIMEOUT, PICKUP_TIMEOUT, MAX_ATTEMPTS, RETRY_DELAY = "timeout", "pickup_timeout", "max_attempts", "retry_delay"
RUN_AS, ON_INTERRUPT, PRIORITY, UNDO, CONCURRENCY_KEY = "run_as", "on_interrupt", "priority", "undo", "concurrency_key"
HIDDEN_INPUTS, HIDDEN_OUTPUTS, EXPOSE_HIDDEN = "hidden_inputs", "hidden_outputs", "expose_hidden"
ENVIRONMENT_INPUTS = "environment_inputs"

STDOUT, STDERR, STATUS_CODE = _Stock.ATTRIBUTES
OUTPUTS, TASK_ID = "outputs", "task_id"

NO_SIGNAL = "NO_SIGNAL"
INTERRUPTS = ("fail", "rerun", "resume")


def _either_case(words: Any) -> Any:
    return constraints.AllowedValues([*words, *(word.lower() for word in words)])


def _names(description: str) -> Any:
    return _Schema(_Schema.LIST, description, schema=_Schema(_Schema.STRING), update_allowed=True)


definition_schema = {
    "group": _Schema(_Schema.STRING, _("The tool that runs the config: script, ansible, puppet and so on.")),
    "config": _Schema(_Schema.ANY, _("The script, manifest or map that the tool is given.")),
    "options": _Schema(_Schema.MAP, _("Options of that tool.")),
    "inputs": _Schema(
        _Schema.LIST,
        _("The inputs that the config expects."),
        schema=_Schema(_Schema.MAP, schema=swc_io.input_config_schema),
    ),
    "outputs": _Schema(
        _Schema.LIST,
        _("The outputs that it produces."),
        schema=_Schema(_Schema.MAP, schema=swc_io.output_config_schema),
    ),
}

task_properties = {
    CONFIG: _Schema(
        _Schema.STRING,
        _("ID of the software config to run. Any resource that makes one will do."),
        update_allowed=True,
    ),
    DEFINITION: _Schema(
        _Schema.MAP,
        _("The config itself, in place of the ID of one: the properties of an OS::Heat::SoftwareConfig."),
        schema=definition_schema,
        update_allowed=True,
    ),
    SERVER: _Schema(
        _Schema.STRING,
        _(
            "ID of the server to run on. Short for the capability server=ID. Without it any agent of the project "
            "that has all capabilities may run the task. A change replaces the resource."
        ),
    ),
    CAPABILITIES: _names(_("What an agent must have been granted to run the task.")),
    INPUT_VALUES: _Schema(
        _Schema.MAP,
        _("Values for the config's inputs. A value for an input that is not declared becomes a String input."),
        update_allowed=True,
    ),
    ACTIONS: _Schema(
        _Schema.LIST,
        _("Which actions of this resource run the task. A software component says so itself, and this is ignored."),
        default=["CREATE", "UPDATE"],
        constraints=[_either_case(_Stock.ALLOWED_DEPLOY_ACTIONS)],
        update_allowed=True,
    ),
    NAME: _Schema(
        _Schema.STRING,
        _(
            "Sort key: of the tasks of one stack on one server that have a name, and that nothing else orders, the "
            "first by name runs first."
        ),
        update_allowed=True,
    ),
    SIGNAL_TRANSPORT: _Schema(
        _Schema.STRING,
        _(
            "NO_SIGNAL: the resource is COMPLETE once the task is recorded. Every other value: it is COMPLETE once "
            "the task has succeeded; the agent reports to the tasks API whichever value is given."
        ),
        default=_Stock.CFN_SIGNAL,
        constraints=[_either_case(_Stock.SIGNAL_TRANSPORTS)],
        update_allowed=True,
    ),
    WORKFLOW: _Schema(
        _Schema.STRING,
        _("ID of the workflow to add the task to. Default: the one that all tasks of the root stack share."),
    ),
    TIMEOUT: _Schema(
        _Schema.NUMBER,
        _("Seconds one attempt may run. The stack operation's own time limit holds in any case."),
        constraints=[constraints.Range(min=1)],
        update_allowed=True,
    ),
    PICKUP_TIMEOUT: _Schema(
        _Schema.NUMBER,
        _("Seconds the task may be ready without an agent taking it."),
        constraints=[constraints.Range(min=1)],
        update_allowed=True,
    ),
    MAX_ATTEMPTS: _Schema(
        _Schema.INTEGER,
        _("How often the task is tried before it has failed."),
        default=1,
        constraints=[constraints.Range(min=1)],
        update_allowed=True,
    ),
    RETRY_DELAY: _Schema(
        _Schema.NUMBER,
        _("Seconds between the first failed attempt and the next; doubled from attempt to attempt."),
        default=0,
        constraints=[constraints.Range(min=0)],
        update_allowed=True,
    ),
    RUN_AS: _Schema(
        _Schema.STRING,
        _("User of the server as whom the config runs. Default: the agent's own."),
        update_allowed=True,
    ),
    ON_INTERRUPT: _Schema(
        _Schema.STRING,
        _("What becomes of an attempt that a reboot ended: fail, rerun from the start, or resume with HW_RESUME=1."),
        default="fail",
        constraints=[_either_case(INTERRUPTS)],
        update_allowed=True,
    ),
    PRIORITY: _Schema(
        _Schema.INTEGER,
        _("Of the tasks an agent may take, the one with the highest priority comes first."),
        default=0,
        update_allowed=True,
    ),
    UNDO: _Schema(
        _Schema.ANY,
        _("What takes the task back: a software config's ID, or a definition. It gets the task's inputs and outputs."),
        update_allowed=True,
    ),
    CONCURRENCY_KEY: _Schema(
        _Schema.STRING,
        _("Of the project's tasks with the same key one runs at a time."),
        update_allowed=True,
    ),
    HIDDEN_INPUTS: _names(_("Inputs whose values are shown to nobody but the agent that runs the task.")),
    HIDDEN_OUTPUTS: _names(_("Outputs whose values are stored encrypted, and refused in get_attr.")),
    ENVIRONMENT_INPUTS: _names(
        _(
            "Hidden inputs that the config may read as environment variables (or Puppet facts) all the same. While it "
            "runs, root and the user it runs as can see them there."
        )
    ),
    EXPOSE_HIDDEN: _Schema(
        _Schema.BOOLEAN,
        _("Let get_attr read hidden outputs all the same. Heat stores what it has read in clear."),
        default=False,
        update_allowed=True,
    ),
}

# Values that the config declares as outputs are attributes too; what a task that still runs will say is not cached.
_LIVE = attributes.Schema.CACHE_NONE
task_attributes = {
    STDOUT: attributes.Schema(_("What the latest run wrote to stdout."), type=attributes.Schema.STRING),
    STDERR: attributes.Schema(_("What the latest run wrote to stderr."), type=attributes.Schema.STRING),
    STATUS_CODE: attributes.Schema(_("The latest run's exit code.")),
    OUTPUTS: attributes.Schema(_("All outputs of the latest run by name."), type=attributes.Schema.MAP),
    TASK_ID: attributes.Schema(_("ID of the latest run's task."), type=attributes.Schema.STRING, cache_mode=_LIVE),
}
