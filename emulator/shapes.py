"""Turns a CloudFormation resource's properties into the service's own request.

A template writes a property as the API does, up to the case of its first
letters, and CloudFormation hands parameters over as strings. The service model
that botocore carries knows the exact spelling and type of every member, so one
walk over it serves every service, and a member the API does not have is an
error instead of something dropped on the way.
"""

from __future__ import annotations

import functools
from typing import Any

import botocore.session
from botocore.model import Shape


@functools.cache
def _model(service: str) -> Any:
    return botocore.session.Session().get_service_model(service)


def to_request(service: str, operation: str, props: dict[str, Any]) -> dict[str, Any]:
    """The request of ``operation`` that says what ``props`` says."""
    return _convert(_model(service).operation_model(operation).input_shape, props, operation)


def _convert(shape: Shape, value: Any, path: str) -> Any:
    kind = shape.type_name
    if kind == "structure":
        return _structure(shape, value, path)
    if kind == "list":
        return [_convert(shape.member, item, f"{path}[]") for item in value]
    if kind == "map":
        return {key: _convert(shape.value, item, f"{path}.{key}") for key, item in value.items()}
    if kind in ("integer", "long"):
        return int(value)
    if kind in ("float", "double"):
        return float(value)
    if kind == "boolean":
        return str(value).lower() == "true"
    return str(value)


def _structure(shape: Shape, value: dict[str, Any], path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{path}: an object is expected, not {value!r}")
    spelling = {name.lower(): name for name in shape.members}
    result = {}
    for key, item in value.items():
        name = spelling.get(key.lower())
        if name is None:
            raise ValueError(f"{path}: the API has no member {key}")
        result[name] = _convert(shape.members[name], item, f"{path}.{key}")
    return result
