"""A ruleset in memory: a JDM graph compiled once, evaluated by zen-engine.

A document is `{format, name, version, code_set: {version, codes}, code_fields, graph}`; `code_fields` names
the output columns that hold codes, and which attribute each of their codes must have in the code set. Whether
a document is fit to be published is decided in `checks`; storing it does not belong here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import rfc8785
import zen

from faregate.kernel.errors import InvalidError
from faregate.rules.contracts import Evaluation

NAME: Final = re.compile(r"[a-z][a-z0-9-]{2,62}")
VERSION_MAX: Final = 999_999_999
_LABEL: Final = re.compile(rf"({NAME.pattern})-([1-9][0-9]{{0,8}})")


class RulesetLabelInvalid(InvalidError):
    """A version is named by the ruleset's name, a hyphen and its number, such as `card-eligibility-2`."""


class RulesetUnreadable(InvalidError):
    """The content is no ruleset document, or the engine cannot load its graph."""


class RulesetInputRefused(InvalidError):
    """The context does not fit the ruleset's input schema."""


class RulesetFailed(InvalidError):
    """The ruleset failed on a context that fits its input schema, or gave what its output schema forbids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledRuleset:
    """A version ready to be evaluated; keep it, compiling takes time. Make it with `compile_ruleset`."""

    name: str
    version: int
    sha256: str
    codes: Mapping[str, Mapping[str, Any]]
    code_set_version: str
    _decision: zen.ZenDecision

    @property
    def label(self) -> str:
        """The version as decisions record it, such as `card-eligibility-1`."""
        return f"{self.name}-{self.version}"

    def evaluate(self, context: Mapping[str, Any]) -> Evaluation:
        """Return the answer to a context. Raises `RulesetInputRefused` or `RulesetFailed`."""
        try:
            answer = self._decision.evaluate(dict(context), {"trace": True})
        except Exception as error:  # the engine has no class of its own for a value that it cannot hold
            raise _named(error, ruleset=self.label) from error
        return Evaluation(result=answer["result"], trace=_trace(answer["trace"]))


def parse_label(label: str) -> tuple[str, int]:
    """Return name and version of a label such as `card-eligibility-2`. Raises `RulesetLabelInvalid`."""
    if (found := _LABEL.fullmatch(label)) is None:
        raise RulesetLabelInvalid("a version is named like card-eligibility-2")
    return found[1], int(found[2])


def require_name(name: str) -> str:
    """Return a ruleset's name. Raises `RulesetLabelInvalid` for what can be none."""
    if NAME.fullmatch(name) is None:
        raise RulesetLabelInvalid("a ruleset has a name like card-eligibility")
    return name


def canonical(document: Mapping[str, Any]) -> str:
    """Return the content that is stored and hashed: canonical JSON (RFC 8785)."""
    return rfc8785.dumps(dict(document)).decode()


def content_sha256(content: str) -> str:
    """Return the SHA-256 of canonical content, in hex."""
    return hashlib.sha256(content.encode()).hexdigest()


def engine_graph(graph: Mapping[str, Any]) -> str:
    """Return the graph as the engine reads it: schemas are strings there, and objects in our documents."""
    return json.dumps({**graph, "nodes": [_engine_node(node) for node in graph["nodes"]]})


def compile_ruleset(content: str) -> CompiledRuleset:
    """Return the compiled ruleset of canonical content. Raises `RulesetUnreadable`."""
    try:
        document = json.loads(content)
        decision = zen.ZenEngine().create_decision(engine_graph(document["graph"]))
        return CompiledRuleset(
            name=document["name"],
            version=document["version"],
            sha256=content_sha256(content),
            codes=document["code_set"]["codes"],
            code_set_version=document["code_set"]["version"],
            _decision=decision,
        )
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RulesetUnreadable(f"no ruleset can be made of this: {engine_message(error)}") from error


def engine_message(error: Exception) -> str:
    """Return what an error of the engine says, without its stack of the machine."""
    return str(_fault(error).get("source") or error).split("\n\nStack backtrace")[0]


def _fault(error: Exception) -> dict[str, Any]:
    """Return the JSON object that the engine's errors open with, empty if there is none."""
    try:
        fault, _ = json.JSONDecoder().raw_decode(str(error))
    except ValueError:
        return {}
    return fault if isinstance(fault, dict) else {}


def _named(error: Exception, *, ruleset: str) -> RulesetInputRefused | RulesetFailed:
    fault, message = _fault(error), engine_message(error)
    if _is_input(fault):
        return RulesetInputRefused(f"{ruleset} refused its input: {message}", ruleset=ruleset)
    return RulesetFailed(f"{ruleset} failed: {message}", ruleset=ruleset, node=fault.get("nodeId"))


def _is_input(fault: Mapping[str, Any]) -> bool:
    return fault.get("nodeId") == INPUT_NODE_ID


INPUT_NODE_ID = "input"
"""The id that the one input node must have, so that a refused input can be told from a failing rule."""


def _engine_node(node: Mapping[str, Any]) -> dict[str, Any]:
    content = node.get("content")
    if isinstance(content, Mapping) and isinstance(content.get("schema"), Mapping):
        return {**node, "content": {**content, "schema": json.dumps(content["schema"])}}
    return dict(node)


def _trace(nodes: Mapping[str, Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Keep what explains a decision: rules that matched and values computed; no inputs again, no timings."""
    ordered = sorted(nodes.values(), key=lambda node: (node["order"], node["id"]))
    return tuple(_trace_entry(node) for node in ordered if node["traceData"] is not None)


def _trace_entry(node: Mapping[str, Any]) -> dict[str, Any]:
    data = node["traceData"]
    if isinstance(data, Mapping) and "_id" in data.get("rule", ()):  # an expression may be named `rule`, too
        return {"node": node["id"], "rules": [data["rule"]["_id"]]}
    if isinstance(data, list):
        return {"node": node["id"], "rules": [hit["rule"]["_id"] for hit in data]}
    return {"node": node["id"], "values": {key: data[key]["result"] for key in sorted(data)}}
