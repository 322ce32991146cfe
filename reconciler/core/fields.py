"""What single values of the desired file may be: durations, sizes, paths, names, addresses.

In: one plain value. Out: the value as the core holds it, or a ValueError in plain words; one that
starts with `expected` gets `, found ...` from `core.validate`. Each kind says in its schema what an
editor may accept: as much as the parser does, since that alone has the last word.
"""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic.config import JsonDict

from reconciler.core.addresses import parse_host, parse_listen, parse_origin, parse_url

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
PATH_WORD = "{path}"
"""In the commands of a render: the file."""

_LONGEST = 30 * 24 * 3600.0
_DURATION = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?")
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kKMGT]?i?B)")
_UNITS = {"B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KiB": 2**10, "kiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}


def parse_duration(value: object) -> float:
    """Turn `5m`, `1h30m`, `10s` or a number of seconds into seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 <= value <= _LONGEST:
            return float(value)
        raise ValueError("expected a duration from 0s to 720h")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not any(match.groups()):
        raise ValueError("expected a duration like 30s, 5m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return parse_duration(hours * 3600 + minutes * 60 + seconds)


def parse_startup(value: object) -> float | None:
    """Like `parse_duration`; `auto` is None."""
    return None if value is None or value == "auto" else parse_duration(value)


def parse_size(value: object) -> int:
    """Turn `241GB` or `4.9 GiB` into bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match or match[2] not in _UNITS:
        raise ValueError("expected a size like 241GB or 4.9GiB")
    return round(float(match[1]) * _UNITS[match[2]])


def parse_text(value: str) -> str:
    """Refuse empty text and control characters."""
    if not value:
        raise ValueError("must not be empty")
    if CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value


def parse_path(value: str) -> str:
    """Check a path: absolute, or staying inside the root."""
    parse_command(value)
    if "://" in value:
        raise ValueError("must be a path; a file with a URL is named by `url`, with its `sha256`")
    if _leaves_root(value):
        raise ValueError("the path leaves the root; write it from / on if that is meant")
    return value


def _leaves_root(value: str) -> bool:
    depth = 0
    for part in () if value.startswith("/") else value.split("/"):
        depth += {"..": -1, ".": 0, "": 0}.get(part, 1)
        if depth < 0:
            return True
    return False


def parse_command(value: str) -> str:
    """Check a program: a name on PATH or a path, also one outside the root."""
    if value.startswith("~"):
        raise ValueError("`~` is not expanded; write the whole path")
    return parse_text(value)


def parse_inner_path(value: str) -> str:
    """Check a path that has to stay inside the root."""
    if value.startswith("/"):
        raise ValueError("must be a path inside the root, not one from / on")
    if _leaves_root(parse_command(value)):
        raise ValueError("must be a path inside the root")
    return value


def parse_place(value: str) -> str:
    """Check a file inside the root that is to be written: one path has one spelling."""
    parse_inner_path(value)
    if any(part in {"", ".", ".."} for part in value.split("/")):
        raise ValueError("must be the plain path of a file: without `.`, `..`, `//`, or `/` behind")
    return value


def parse_words(value: str) -> str:
    """Check a command: split into words as a shell does it, and run without one."""
    parse_command(value)
    try:
        words = shlex.split(value)
    except ValueError as error:
        raise ValueError(f"cannot be split into words: {str(error).lower()}") from error
    if not words or not words[0]:
        raise ValueError("names no program")
    return value


def parse_check(value: str) -> str:
    """Check a command that judges a file before it is put in place."""
    if PATH_WORD not in parse_words(value):
        raise ValueError(f"must hold {PATH_WORD}, which stands for the file that is to be checked")
    return value


def parse_label(value: str) -> str:
    """Check a quant or a revision: it becomes part of a path on the hub and here."""
    parse_text(value)
    if value.startswith("/") or ".." in value or re.search(r"[\s\\*?\[\]]", value):
        raise ValueError("must not start with `/` nor hold `..`, spaces or any of * ? [ ] \\")
    return value


def parse_mmproj(value: object) -> bool | str:
    """Check `mmproj`: whether there is to be one, or which."""
    if isinstance(value, bool | str):
        return value if isinstance(value, bool) else parse_label(value)
    raise ValueError("expected true, false, or a file or quant of the repository")


def parse_repo(value: str) -> str:
    """Check a hub repository, `org/name`."""
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", value, re.ASCII) or ".." in value:
        raise ValueError("expected a hub repository like org/name")
    return value


def parse_sha256(value: str) -> str:
    """Check a sha256; capitals become small letters."""
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value):
        raise ValueError("expected a sha256 of 64 hex digits")
    return value.lower()


_TIME_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "number", "minimum": 0, "maximum": _LONGEST},
        {"type": "string", "pattern": r"^(?=.)([0-9]+h)?([0-9]+m)?([0-9]+([.][0-9]+)?s)?$"},
    ]
}
_SIZE_SCHEMA: JsonDict = {
    "anyOf": [
        {"type": "integer", "minimum": 0},
        {"type": "string", "pattern": r"^[0-9]+([.][0-9]+)?\s*(B|kB|KB|MB|GB|TB|[kKMGT]iB)$"},
    ]
}
_STARTUP_SCHEMA: JsonDict = {"anyOf": [{"const": "auto"}, _TIME_SCHEMA]}
_LISTEN_SCHEMA: JsonDict = {
    "anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]
}
_PLAIN: tuple[JsonDict, ...] = ({"type": "boolean"}, {"type": "number"}, {"type": "string"})
_FLAG_SCHEMA: JsonDict = {
    "anyOf": [
        *_PLAIN,
        {"type": "array", "minItems": 1, "items": {"type": ["number", "string"]}},
    ]
}
_ENV_SCHEMA: JsonDict = {"type": ["string", "number", "boolean"]}

Duration = Annotated[float, BeforeValidator(parse_duration), WithJsonSchema(_TIME_SCHEMA)]
Period = Annotated[
    float, Field(gt=0), BeforeValidator(parse_duration), WithJsonSchema(_TIME_SCHEMA)
]
Projector = Annotated[
    bool | str,
    BeforeValidator(parse_mmproj),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string"}]}),
]
Startup = Annotated[float | None, BeforeValidator(parse_startup), WithJsonSchema(_STARTUP_SCHEMA)]
Size = Annotated[int, BeforeValidator(parse_size), WithJsonSchema(_SIZE_SCHEMA)]
Listen = Annotated[str, BeforeValidator(parse_listen), WithJsonSchema(_LISTEN_SCHEMA)]
Command = Annotated[str, AfterValidator(parse_command)]
FilePath = Annotated[str, AfterValidator(parse_path)]
InnerPath = Annotated[str, AfterValidator(parse_inner_path)]
PlainPlace = Annotated[str, AfterValidator(parse_place)]
Words = Annotated[str, AfterValidator(parse_words)]
CheckWords = Annotated[str, AfterValidator(parse_check)]
Label = Annotated[str, AfterValidator(parse_label)]
Repo = Annotated[str, AfterValidator(parse_repo)]
Sha256 = Annotated[str, AfterValidator(parse_sha256)]
Url = Annotated[str, AfterValidator(parse_url)]
Host = Annotated[str, AfterValidator(parse_host)]
Origin = Annotated[str, AfterValidator(parse_origin)]
Port = Annotated[int, Field(ge=1, le=65535)]
FlagValue = bool | str | tuple[str, ...]
"""A flag's value as written: true/false, text (numbers stay as written), or several texts."""
Flags = dict[str, Annotated[FlagValue, WithJsonSchema(_FLAG_SCHEMA)]]
Variables = dict[str, Annotated[str, WithJsonSchema(_ENV_SCHEMA)]]
