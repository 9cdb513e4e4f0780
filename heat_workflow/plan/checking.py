# SPDX-License-Identifier: Apache-2.0
"""Checking: Heat's own validation of a stack, run to its end instead of to the first mistake, and without a cloud.

Stack, parameters, resources and outputs validate themselves, as they do in heat-engine before a stack is created. Here
each is asked, and its refusal is a line. A refusal that hangs on a value which was made up, or which only a cloud can
judge, is a note.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from heat.common import context, exception
from heat.engine import function, properties, resource, template
from heat.engine.hot import functions
from heat.engine.resources import stack_resource
from heat.engine.resources.openstack.heat import resource_group

from heat_workflow import errors
from heat_workflow.plan.graph import refuse_circles


class NoCloudError(Exception):
    """A check asked for a cloud."""


class Offline(context.RequestContext):  # type: ignore[misc]
    """The context of a user without a cloud: whoever asks there is told so, and that is remembered."""

    asked = False

    @property
    def auth_plugin(self) -> Any:
        self.asked = True
        raise NoCloudError("only a cloud can tell")

    keystone_session = trusts_auth_plugin = auth_plugin


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is wrong, a line each, and what could not be checked."""

    problems: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)


def in_words(failure: BaseException, whole: bool = False) -> str:
    """What went wrong, in one line; the ``whole`` says where in the template too, as far as Heat does."""
    own = failure.args[0] if isinstance(failure, KeyError) and failure.args else failure
    words = (None if whole else getattr(failure, "error_message", None)) or str(own) or type(failure).__name__
    return "".join(each if each.isprintable() else " " for each in " ".join(str(words).replace("\\n", " ").split()))


def check_each(whole: Any, check: Callable[[Any], object], findings: Findings, prefix: str = "") -> bool:
    """Whether the template passes. Where Heat looks at all resources at once and says of none, each is tried alone."""
    failure = _failure(check, whole)
    if failure is None:
        return True
    resources = whole.t.get(whole.RESOURCES) or {}
    alone = {name: _failure(check, _with_resources(whole, {name: one})) for name, one in resources.items()}
    wrong = {name: own for name, own in alone.items() if own}
    if not wrong or _failure(check, _with_resources(whole, {})):
        findings.problems.append(in_words(failure, whole=True))
    else:
        findings.problems.extend(f"resource {prefix}{name}: {in_words(own)}" for name, own in wrong.items())
    return False


def _with_resources(whole: Any, resources: Mapping[str, Any]) -> Any:
    return template.Template({**whole.t, whole.RESOURCES: resources}, env=whole.env, files=whole.files)


def _failure(check: Callable[[Any], object], part: Any) -> Exception | None:
    try:
        check(part)
    except Exception as failure:
        return failure
    return None


class Checker:
    """Validates one stack, and with others of its kind those nested in it."""

    def __init__(self, stack: Any, made_up: Collection[str], findings: Findings, prefix: str = "") -> None:
        self.stack, self.made_up, self.findings, self.prefix = stack, made_up, findings, prefix
        self.entered: set[str] = set()  # nested stacks that have been looked into

    def check(self) -> None:
        """Find all that is wrong with the stack."""
        self._check_parameters()
        if not self._check_functions():
            return
        in_order = self._check_order()
        if not self._make_resources() or not in_order:
            return
        for one in self.stack.resources.values():
            one._validate_service_availability = lambda *_: None  # whether the cloud has the service at all
            one.validate = self._asking(one, one.validate)
            one.validate_external = lambda one=one: self._note(one, "what is outside of Heat")
            if isinstance(one, stack_resource.StackResource):
                one.validate_nested_stack = lambda one=one: self._check_nested(one)
        for name, output in self.stack.outputs.items():
            output.validate = self._collecting(f"output {self.prefix}{name}: ", output.validate)
        self._collecting(f"in {self.prefix.rstrip('/')}: " if self.prefix else "", self.stack.validate)()

    # -- parts of a stack --------------------------------------------------------------------------------------

    def _check_parameters(self) -> None:
        parameters = self.stack.parameters
        for name in parameters.user_params if not self.prefix else ():
            if name not in parameters:
                self._wrong(f"parameter {name}: the environment gives it, and the template has none of that name")
        for name, parameter in parameters.params.items():
            try:
                valued = self.stack.strict_validate and name not in self.made_up
                parameter.validate(validate_value=valued, context=self.stack.context)
            except Exception as failure:
                self._wrong(f"parameter {self.prefix}{name}: {in_words(failure)}")
        parameters.validate = lambda **_: None  # it is done

    def _check_functions(self) -> bool:
        """Whether every function is written as it has to be."""
        defn, identifier = self.stack.defn, self.stack.identifier()
        return check_each(
            self.stack.t,
            lambda part: defn.clone_with_new_template(part, identifier).enabled_rsrc_names(),
            self.findings,
            self.prefix,
        )

    def _check_order(self) -> bool:
        """Whether each resource refers to resources that there are, and none waits for itself in the end."""
        defn, before = self.stack.defn, len(self.findings.problems)
        known = defn.all_rsrc_names()
        required: dict[str, list[str]] = {}
        for name in sorted(defn.enabled_rsrc_names()):
            try:
                required[name] = sorted(defn.resource_definition(name).required_resource_names())
            except Exception as failure:
                self._wrong(f"resource {self.prefix}{name}: {in_words(failure)}")
        for what, name, reader in self._readers():
            try:
                list(reader.dep_attrs("", load_all=True))
            except Exception as failure:
                self._wrong(f"{what} {self.prefix}{name}: get_attr is given what is no name ({in_words(failure)})")
        for name, others in required.items():
            for other in others:
                if other not in known:
                    self._wrong(f"resource {self.prefix}{name} waits for {other}, which is not in the template")
        try:
            refuse_circles(required, "resources")
        except errors.Invalid as circle:
            self._wrong(circle.detail)
        return len(self.findings.problems) == before

    def _readers(self) -> Iterator[tuple[str, str, Any]]:
        """What may read attributes, each with its kind and its name."""
        defn = self.stack.defn
        yield from (("resource", name, defn.resource_definition(name)) for name in sorted(defn.enabled_rsrc_names()))
        yield from (("output", name, defn.output_definition(name)) for name in sorted(defn.enabled_output_names()))

    def _make_resources(self) -> bool:
        """Whether each resource is of a type that there is, and has its own fields in order."""
        made, good = {}, True
        for name in sorted(self.stack.defn.enabled_rsrc_names()):
            definition = self.stack.defn.resource_definition(name)
            try:
                made[name] = resource.Resource(name, definition, self.stack)
            except Exception as failure:
                good = False
                self._wrong(f"resource {self.prefix}{name}: {in_words(failure)}")
        if good:
            self.stack._resources = made
        return good

    def _asking(self, one: Any, validate: Callable[[], Any]) -> Callable[[], None]:
        def ask() -> None:
            one.context.asked = False
            try:
                validate()
            except Exception as failure:
                self._judge(one, validate, failure)
                if isinstance(one, stack_resource.StackResource):
                    self._collecting("", one.validate_nested_stack)()  # which it did not come to
            else:
                if not self.stack.strict_validate:  # then Heat looks at no values at all
                    self._split(one)

        return ask

    def _judge(self, one: Any, validate: Callable[[], Any], failure: Exception) -> None:
        """Say what is wrong with a resource that was refused, property by property if that is where it is."""
        offline = one.context.asked
        if self._split(one):
            return
        where = f"resource {self.prefix}{one.name}"
        if offline:
            self._note(one, f"what {one.t.resource_type} asks a cloud for")
        elif not self._hangs_on_guess(one.t._properties):
            self._wrong(f"{where}: {in_words(failure)}")
        else:
            self._judge_without_values(one, validate, failure)

    def _judge_without_values(self, one: Any, validate: Callable[[], Any], failure: Exception) -> None:
        strict, self.stack.strict_validate = self.stack.strict_validate, False
        try:
            validate()
            self._note(one, f"with values that were made up ({in_words(failure)})")
        except Exception as other:
            self._wrong(f"resource {self.prefix}{one.name}: {in_words(other)}")
        finally:
            self.stack.strict_validate = strict

    def _split(self, one: Any) -> bool:
        """Say what is wrong with each property by itself; whether something is."""
        found = False
        for key, failure in self._wrong_properties(one):
            if one.context.asked:
                self._note(one, f"property {key}, which only a cloud can judge")
            else:
                self._wrong(f"resource {self.prefix}{one.name}: {_place(key, failure)}{in_words(failure)}")
            found = True
        return found

    def _wrong_properties(self, one: Any) -> Iterator[tuple[str, Exception]]:
        given: Mapping[str, Any] = one.properties.data
        schema = properties.schemata(one.properties_schema)
        for key in sorted({*schema, *map(str, given)}):
            value = {key: given[key]} if key in given else {}
            by_itself = one.t.properties({key: schema[key]} if key in schema else {}, one.context)
            by_itself.data, by_itself.translation = value, one.properties.translation
            one.context.asked = False
            try:
                function.validate(value)
                by_itself.validate(with_value=not self._hangs_on_guess(value))
            except Exception as failure:
                yield key, failure

    def _check_nested(self, one: Any) -> None:
        """The stack inside, whose parameters are not known before there is one."""
        if one.name in self.entered:
            return
        self.entered.add(one.name)
        inside = _first_of(one) if isinstance(one, resource_group.ResourceGroup) else one.child_template()
        if inside is None:
            return
        nested = one._parse_nested_stack(f"{self.stack.name}-{one.name}", inside, one.child_params())
        nested.strict_validate = False
        Checker(nested, (), self.findings, f"{self.prefix}{one.name}/").check()

    # -- what was found ----------------------------------------------------------------------------------------

    def _hangs_on_guess(self, value: Any) -> bool:
        """Whether a value comes from a parameter that nobody gave; inside a nested stack, from any."""
        if isinstance(value, functions.GetParam):
            named = function.resolve(value.args)
            name = named if isinstance(named, str) else named[0] if named else None
            return not self.stack.strict_validate or name in self.made_up
        if isinstance(value, function.Macro):
            return self._hangs_on_guess(value.parsed)
        if isinstance(value, function.Function):
            return self._hangs_on_guess(value.args)
        parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, (list, tuple)) else ()
        return any(self._hangs_on_guess(part) for part in parts)

    def _collecting(self, where: str, validate: Callable[[], Any]) -> Callable[[], None]:
        def collect() -> None:
            try:
                validate()
            except Exception as failure:
                self._wrong(f"{where}{in_words(failure)}")

        return collect

    def _wrong(self, line: str) -> None:
        if line not in self.findings.problems:
            self.findings.problems.append(line)

    def _note(self, one: Any, what: str) -> None:
        line = f"resource {self.prefix}{one.name}: not checked: {what}"
        if line not in self.findings.notes:
            self.findings.notes.append(line)


def _first_of(group: Any) -> Any:
    """The template of a group's first member, as Heat validates it; None if it has no members, or none known yet."""
    first = next(iter(group._resource_names()), None)
    return None if first is None else group._assemble_nested([first], include_all=True)


def _place(key: str, failure: Exception) -> str:
    """Which property is wrong, and where in it."""
    path = getattr(failure, "path", None) if isinstance(failure, exception.StackValidationFailed) else None
    inner = [str(part) for part in path or () if str(part) not in ("Properties", "properties")]
    return f"property {'.'.join(inner) if key in inner else key}: "
