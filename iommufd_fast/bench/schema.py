# SPDX-License-Identifier: Apache-2.0
"""The JSON document that a run leaves: its version, its schema, and a check.

The schema is JSON Schema (the few keywords used here), so other programs can validate with their own tools:
``iommufd-fast bench --schema`` prints it. A change that an old reader would misread raises VERSION.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSION = "iommufd-fast-bench/3"
OLD = ("iommufd-fast-bench/1", "iommufd-fast-bench/2")  # knew the engine only; had no curves. Read as if they were new

_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_TEXT: dict[str, Any] = {"type": "string"}
_MAYBE_TEXT: dict[str, Any] = {"type": ["string", "null"]}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _counts() -> dict[str, Any]:
    return {"type": "object", "properties": {}, "additionalProperties": _COUNT}


_RESULT = _object(
    {
        "preset": {"type": "string", "enum": ["intel", "amd", "arm", "riscv", "kernel"]},
        "policy": {"type": "string", "enum": ["trust", "probe", "mlock", "io_uring", "pin"]},
        "path": {"type": "string", "enum": ["c", "python"]},
        "live": _COUNT,
        "page": {"type": "string", "enum": ["auto", "4K"]},
        "memory": {"type": "string", "enum": ["anonymous", "thp", "memfd", "hugetlb"]},
        "length": {"type": "integer", "minimum": 1},
        "batch": {"type": "integer", "minimum": 1},
        "pattern": {"type": "string", "enum": ["pair", "churn"]},
        "iova": {"type": "string", "enum": ["own", "kernel"]},
        "op": {"type": "string", "enum": ["map", "translate", "unmap"]},
        "n": {"type": "integer", "minimum": 1},
        **dict.fromkeys(
            ("min", "p50", "p90", "p99", "max", "mean", "per_call", "per_second", "bytes_per_second", "noise"), _NUMBER
        ),
        "round_medians": {"type": "array", "items": _NUMBER},
        "quantiles": {"type": "array", "items": _NUMBER},
        "in_kernel": {"type": ["number", "null"]},
        "leaves": _counts(),
        "huge_bytes": {"type": ["integer", "null"]},
    }
)
_UNIT: dict[str, Any] = {"type": "string", "enum": ["ns", "B"]}
_POINT = _object({"curve": _TEXT, "x": _COUNT, "y": {"type": "number"}, "unit": _UNIT})
_CLOCK = _object({"name": _TEXT, "ns_per_tick": _NUMBER, "overhead_ns": _NUMBER, "resolution_ns": _NUMBER})
_MACHINE = _object(
    {
        "cpu": _TEXT,
        "cpus": _COUNT,
        "architecture": _TEXT,
        "virtual_machine": {"type": "boolean"},
        "governor": _MAYBE_TEXT,
        "memory_bytes": {"type": ["integer", "null"]},
        "kernel": _TEXT,
        "page_size": _COUNT,
        "thp": _MAYBE_TEXT,
        "thp_shmem": _MAYBE_TEXT,
        "hugetlb_free": _counts(),
        "load_1min": _NUMBER,
        "compiler": _MAYBE_TEXT,
        "build": {"type": "string", "enum": ["release", "test", "unknown"]},
        "iommufd_fast": _TEXT,
        "python": _TEXT,
        "numpy": _TEXT,
    }
)
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Result of iommufd-fast bench",
    **_object(
        {
            "schema": {"type": "string", "enum": [VERSION]},
            "tool": _TEXT,
            "started": _TEXT,
            "seconds": _NUMBER,
            "plan": _object(
                {
                    "rounds": {"type": "integer", "minimum": 1},
                    "seconds_per_round": _NUMBER,
                    "seed": _COUNT,
                    "quick": {"type": "boolean"},
                    "cross": {"type": "boolean"},
                }
            ),
            "provider": _object(
                {"name": {"type": "string", "enum": ["engine", "kernel"]}, "device": _MAYBE_TEXT, "in_kernel": _TEXT}
            ),
            "machine": _MACHINE,
            "clocks": _object({"c": _CLOCK, "python": _CLOCK}),
            "grid": {"type": "array", "items": _NUMBER},
            "missing": {"type": "array", "items": _TEXT},
            "results": {"type": "array", "items": _RESULT},
            "growth": {"type": "array", "items": _POINT},
        }
    ),
}

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


class SchemaError(ValueError):
    """A document that is not what this version writes; the text names the place."""


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and not (isinstance(value, bool) and name in ("integer", "number"))


def _check(value: Any, schema: dict[str, Any], at: str) -> None:
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    if not any(_is(value, name) for name in names):
        raise SchemaError(f"{at}: expected {' or '.join(names)}, got {type(value).__name__}")
    if "enum" in schema and value not in schema["enum"]:
        raise SchemaError(f"{at}: expected one of {', '.join(schema['enum'])}, got {value!r}")
    if "minimum" in schema and not value >= schema["minimum"]:
        raise SchemaError(f"{at}: expected at least {schema['minimum']}, got {value!r}")
    if isinstance(value, dict):
        _check_object(value, schema, at)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _check(item, schema["items"], f"{at}[{i}]")


def _check_object(value: dict[str, Any], schema: dict[str, Any], at: str) -> None:
    missing = [k for k in schema.get("required", ()) if k not in value]
    if missing:
        raise SchemaError(f"{at}: {missing[0]!r} is missing")
    for key, item in value.items():
        inner = schema["properties"].get(key, schema["additionalProperties"])
        if inner is False:
            raise SchemaError(f"{at}: {key!r} is not known")
        _check(item, inner, f"{at}.{key}")


def check(document: Any) -> dict[str, Any]:
    """The document itself when it fits SCHEMA; SchemaError naming the first place that does not."""
    _check(document, SCHEMA, "$")
    for i, result in enumerate(document["results"]):
        if len(result["quantiles"]) != len(document["grid"]):
            raise SchemaError(f"$.results[{i}].quantiles: expected {len(document['grid'])} values, one per grid point")
    return document


def renew(document: Any) -> Any:
    """A document of a version before as one of this version."""
    if not isinstance(document, dict) or document.get("schema") not in OLD:
        return document
    made = {**document, "schema": VERSION, "growth": []}
    if document["schema"] == OLD[0]:
        made["provider"] = {"name": "engine", "device": None, "in_kernel": "not available: no kernel is asked"}
        made["results"] = [{**result, "iova": "own", "in_kernel": None} for result in document.get("results", ())]
    return made


def load(path: str | Path) -> dict[str, Any]:
    """Read and check a result file.

    Raises
    ------
    SchemaError
        Not a result of ``iommufd-fast bench``, or of another version.
    OSError
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as e:
        raise SchemaError(f"{path} is not JSON: {e}") from None
    try:
        return check(renew(document))
    except SchemaError as e:
        raise SchemaError(f"{path}: {e}") from None
