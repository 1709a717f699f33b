"""The OpenAPI 3.1 description of the API, made from the table that the routes are made from.

It holds nothing of a patient and nothing of this node but its version, so every identified caller may read it.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.model.imaging import JsonValue
from gateway.web.api.desk import Id
from gateway.web.api.operations import OPERATIONS, Operation
from gateway.web.api.shapes import members, present, schema_of

PATH: Final = "/api/openapi.json"
_PROBLEM: Final = "Problem"
_REFUSALS: Final = {
    400: "The request cannot be understood, or what it asks may not be.",
    401: "No certificate of a known caller.",
    403: "A caller of this kind may not act so.",
    404: "The caller's trust has nothing of this id.",
    413: "The body is larger than its limit.",
    415: "The body is not JSON.",
    503: "The gateway cannot work at this moment; nothing was changed.",
}


def description(version: str) -> dict[str, JsonValue]:
    """The whole description."""
    parts: dict[str, JsonValue] = {_PROBLEM: _problem()}
    paths: dict[str, dict[str, JsonValue]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, parts)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Release of reports to patients",
            "version": version,
            "description": "For staff and systems of one trust, by client certificate. Looking changes nothing.",
        },
        "security": [{"certificate": []}],
        "paths": {**paths},
        "components": {
            "schemas": parts,
            "securitySchemes": {"certificate": {"type": "mutualTLS"}},
        },
    }


def _operation(operation: Operation, parts: dict[str, JsonValue]) -> JsonValue:
    answers: dict[str, JsonValue] = {
        "200": {"description": "Done.", "content": {"application/json": {"schema": schema_of(operation.gives, parts)}}}
    }
    problem: JsonValue = {"application/problem+json": {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}}
    for status, words in _REFUSALS.items():
        if operation.body is not None or status not in (413, 415):
            answers[str(status)] = {"description": words, "content": problem}
    described: dict[str, JsonValue] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": f"For: {', '.join(sorted(kind.value for kind in operation.who))}.",
        "responses": answers,
    }
    parameters = [*_path_parameters(operation), *_query_parameters(operation, parts)]
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        content: JsonValue = {"application/json": {"schema": schema_of(operation.body, parts)}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _path_parameters(operation: Operation) -> list[JsonValue]:
    names: list[str] = re.findall(r"{(\w+)}", operation.path)
    return [{"name": name, "in": "path", "required": True, "schema": schema_of(Id, {})} for name in names]


def _query_parameters(operation: Operation, parts: dict[str, JsonValue]) -> list[JsonValue]:
    if operation.query is None:
        return []
    return [
        {"name": name, "in": "query", "required": is_needed, "schema": schema_of(present(annotation), parts)}
        for name, annotation, is_needed in members(operation.query)
    ]


def _problem() -> JsonValue:
    return {
        "type": "object",
        "description": "RFC 9457.",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "requestId": {"type": "string"},
        },
        "required": ["type", "title", "status", "requestId"],
    }
