"""The flags of the embedded engine: one table, its `--help`, and how a command line is read.

In: a command line in llama-server's spelling. Out: settings, each for one attribute of xllamacpp's
CommonParams; or llama-server's error. `--help` names the flags the way llama-server does, so one
reader serves both engines. It must not load xllamacpp, nor anything else of ours.
"""

from __future__ import annotations

import math
import os
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

DEFAULT_PORT = 8080
_OTHERS = (
    "note: the embedded engine takes only the llama-server flags that its --help names; "
    "for all others set `engine.kind: llama-server`"
)


class BadFlagError(Exception):
    """The command line cannot be used; the message is llama-server's."""


@dataclass(frozen=True, slots=True)
class Named:
    """A value of an enumeration of xllamacpp, by name: looked up once that is loaded."""

    kind: str
    member: str


@dataclass(frozen=True, slots=True)
class Option:
    """One flag. `field` is the attribute of CommonParams that it sets."""

    names: tuple[str, ...]
    field: str
    help: str
    read: Callable[[str], object] | None = None
    """Turns the value's text into the attribute's; None: a switch without a value."""
    hint: str = ""
    off: tuple[str, ...] = ()
    """The spellings that switch it off."""
    user_bit: str = ""
    """Says that the user chose this, so that the model file's own advice does not replace it."""


def _integer(low: int = -(2**31), high: int = 2**31 - 1) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?\d+", text) or not low <= int(text) <= high:
            raise ValueError(f"'{text}' is not a whole number from {low} to {high}")
        return int(text)

    return read


def _number(low: float = -math.inf, *, above: bool = False) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or value < low or (above and value == low):
            bound = "" if low == -math.inf else f" {'above' if above else 'from'} {low:g}"
            raise ValueError(f"'{text}' is not a number{bound}")
        return value

    return read


def _choice(choices: Mapping[str, Named]) -> Callable[[str], Named]:
    def read(text: str) -> Named:
        if text not in choices:
            raise ValueError(f"'{text}' is not one of {', '.join(choices)}")
        return choices[text]

    return read


def _names(kind: str, prefix: str, names: str) -> dict[str, Named]:
    return {name: Named(kind, prefix + name.upper().replace("-", "_")) for name in names.split()}


def _listed(text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise ValueError("it requires at least one value")
    return parts


def _threads(text: str) -> int:
    value = _integer()(text)
    return value if value > 0 else len(os.sched_getaffinity(0))


def _seed(text: str) -> int:
    # -1 is "random", which llama.cpp writes as the highest unsigned number.
    return _integer(-1, 2**32 - 1)(text) % 2**32


def _not_zero(text: str) -> int:
    value = _integer(-1)(text)
    if value == 0:
        raise ValueError("invalid value: cannot be 0 or less than -1")
    return value


def _layers(text: str) -> int:
    words = {"auto": -1, "all": -2}
    return words[text] if text in words else _integer(-2)(text)


_FLASH = {
    word: Named("llama_flash_attn_type", f"LLAMA_FLASH_ATTN_TYPE_{member}")
    for member, words in {
        "ENABLED": "on enabled true 1",
        "DISABLED": "off disabled false 0",
        "AUTO": "auto -1",
    }.items()
    for word in words.split()
}
_CACHE = _names("ggml_type", "GGML_TYPE_", "f32 f16 bf16 q8_0 q4_0 q4_1 iq4_nl q5_0 q5_1")
_LOAD = _names("llama_load_mode", "LLAMA_LOAD_MODE_", "auto none mmap mlock")
_LOAD["mmap+mlock"] = Named("llama_load_mode", "LLAMA_LOAD_MODE_MMAP_MLOCK")
_LOAD["dio"] = Named("llama_load_mode", "LLAMA_LOAD_MODE_DIRECT_IO")
_POOLING = _names("llama_pooling_type", "LLAMA_POOLING_TYPE_", "none mean cls last rank")
_REASONING = _names(
    "common_reasoning_format", "COMMON_REASONING_FORMAT_", "none auto deepseek deepseek-legacy"
)
_ALLOWED = f"allowed values: {', '.join(_CACHE)}"

OPTIONS: Mapping[str, tuple[Option, ...]] = {
    "common params": (
        Option(("-t", "--threads"), "cpuparams.n_threads",
               "number of CPU threads to use during generation (default: -1)", _threads, "N"),
        Option(("-tb", "--threads-batch"), "cpuparams_batch.n_threads",
               "number of threads to use during batch and prompt processing (default: same as "
               "--threads)", _threads, "N"),
        Option(("-c", "--ctx-size"), "n_ctx",
               "size of the prompt context (default: 0, 0 = loaded from model)", _integer(0), "N"),
        Option(("-n", "--predict", "--n-predict"), "n_predict",
               "number of tokens to predict (default: -1, -1 = infinity)", _integer(-1), "N"),
        Option(("-b", "--batch-size"), "n_batch",
               "logical maximum batch size (default: 2048)", _integer(1), "N"),
        Option(("-ub", "--ubatch-size"), "n_ubatch",
               "physical maximum batch size (default: 512)", _integer(1), "N"),
        Option(("-fa", "--flash-attn"), "flash_attn_type",
               "set Flash Attention use ('on', 'off', or 'auto', default: 'auto')",
               _choice(_FLASH), "[on|off|auto]"),
        Option(("-ctk", "--cache-type-k"), "cache_type_k",
               f"KV cache data type for K\n{_ALLOWED}\n(default: f16)", _choice(_CACHE), "TYPE"),
        Option(("-ctv", "--cache-type-v"), "cache_type_v",
               f"KV cache data type for V\n{_ALLOWED}\n(default: f16)", _choice(_CACHE), "TYPE"),
        Option(("-lm", "--load-mode"), "load_mode",
               "model loading mode (default: auto)\n- auto: mmap, unless a device does not support "
               "it\n- none: no special loading mode\n- mmap: memory-map model\n- mlock: force "
               "system to keep model in RAM\n- mmap+mlock: both\n- dio: use DirectIO if available",
               _choice(_LOAD), "MODE"),
        Option(("-ngl", "--gpu-layers", "--n-gpu-layers"), "n_gpu_layers",
               "max. number of layers to store in VRAM, either an exact number, 'auto', or 'all' "
               "(default: auto)", _layers, "N"),
        Option(("-m", "--model"), "model.path", "model path to load", str, "FNAME"),
    ),
    "sampling params": (
        Option(("-s", "--seed"), "sampling.seed",
               "RNG seed (default: -1, use random seed for -1)", _seed, "SEED"),
        Option(("--temp", "--temperature"), "sampling.temp", "temperature (default: 0.80)",
               lambda text: max(_number()(text), 0.0), "N", user_bit="TEMP"),
        Option(("--top-k",), "sampling.top_k", "top-k sampling (default: 40, 0 = disabled)",
               _integer(), "N", user_bit="TOP_K"),
        Option(("--top-p",), "sampling.top_p", "top-p sampling (default: 0.95, 1.0 = disabled)",
               _number(), "N", user_bit="TOP_P"),
        Option(("--min-p",), "sampling.min_p", "min-p sampling (default: 0.05, 0.0 = disabled)",
               _number(), "N", user_bit="MIN_P"),
        Option(("--repeat-penalty",), "sampling.penalty_repeat",
               "penalize repeat sequence of tokens (default: 1.00, 1.0 = disabled)",
               _number(0, above=True), "N", user_bit="PENALTY_REPEAT"),
        Option(("--presence-penalty",), "sampling.penalty_present",
               "repeat alpha presence penalty (default: 0.00, 0.0 = disabled)", _number(), "N"),
        Option(("--frequency-penalty",), "sampling.penalty_freq",
               "repeat alpha frequency penalty (default: 0.00, 0.0 = disabled)", _number(), "N"),
    ),
    "example-specific params": (
        Option(("-cram", "--cache-ram"), "cache_ram_mib",
               "set the maximum cache size in MiB (default: 8192, -1 - no limit, 0 - disable)",
               _integer(-1), "N"),
        Option(("-kvu", "--kv-unified"), "kv_unified",
               "use single unified KV buffer shared across all sequences (default: enabled if "
               "number of slots is auto)", off=("-no-kvu", "--no-kv-unified")),
        Option(("--warmup",), "warmup",
               "whether to perform warmup with an empty run (default: enabled)",
               off=("--no-warmup",)),
        Option(("--pooling",), "pooling_type",
               "pooling type for embeddings, use model default if unspecified",
               _choice(_POOLING), "{none,mean,cls,last,rank}"),
        Option(("-np", "--parallel"), "n_parallel",
               "number of server slots (default: -1, -1 = auto)", _not_zero, "N"),
        Option(("-a", "--alias"), "model_alias",
               "set model name aliases, comma-separated (to be used by API)",
               lambda text: set(_listed(text)), "STRING"),
        Option(("--host",), "hostnames",
               "IP addresses to listen on, comma-separated, or UNIX socket paths ending in .sock "
               "(default: 127.0.0.1)", _listed, "HOST"),
        Option(("--port",), "port", f"port to listen (default: {DEFAULT_PORT})",
               _integer(0, 65535), "PORT"),
        Option(("--cors-origins",), "cors_origins",
               "comma-separated list of allowed origins for CORS (default: *)\nif set to special "
               "value 'localhost', reflect the Origin header only if it is localhost",
               str, "ORIGINS"),
        Option(("--ui", "--webui"), "ui", "whether to enable the Web UI (default: enabled)",
               off=("--no-ui", "--no-webui")),
        Option(("--embedding", "--embeddings"), "embedding",
               "restrict to only support embedding use case; use only with dedicated embedding "
               "models (default: disabled)"),
        Option(("--sse-ping-interval",), "sse_ping_interval",
               "server SSE ping interval in seconds (-1 = disabled, default: 30)",
               _integer(-1), "N"),
        Option(("--metrics",), "endpoint_metrics",
               "enable prometheus compatible metrics endpoint (default: disabled)"),
        Option(("--slots",), "endpoint_slots",
               "expose slots monitoring endpoint (default: enabled)", off=("--no-slots",)),
        Option(("--jinja",), "use_jinja",
               "whether to use jinja template engine for chat (default: enabled)",
               off=("--no-jinja",)),
        Option(("--reasoning-format",), "reasoning_format",
               "controls whether thought tags are allowed and/or extracted from the response; one "
               "of: none, deepseek, deepseek-legacy, auto\n(default: auto)",
               _choice(_REASONING), "FORMAT"),
        Option(("--chat-template",), "chat_template",
               "set custom jinja chat template (default: template taken from model's metadata)",
               str, "JINJA_TEMPLATE"),
        Option(("--sleep-idle-seconds",), "sleep_idle_seconds",
               "number of seconds of idleness after which the server will sleep (default: -1; "
               "-1 = disabled)", _not_zero, "SECONDS"),
    ),
}  # fmt: skip
"""Every flag, in the sections and nearly the order of llama-server's help."""

_HELP_COLUMN = 40
_HELP_WIDTH = 70


def _describe(names: Sequence[str], hint: str, text: str) -> str:
    """One flag as llama-server's help prints it (common_arg::to_string of llama.cpp)."""
    head = names[0]
    if len(names) > 1:
        head = f"{names[0] + ', ':<7}" + ", ".join(names[1:])
    head = f"{head} {hint}".rstrip()
    lines = [row for line in text.splitlines() for row in textwrap.wrap(line, _HELP_WIDTH)]
    if len(head) > _HELP_COLUMN - 3:
        lines.insert(0, "")
    indent = "\n" + " " * _HELP_COLUMN
    return f"{head:<{_HELP_COLUMN}}{indent.join(lines)}".rstrip()


def help_text() -> str:
    """What `--help` prints."""
    sections: list[str] = []
    for title, options in OPTIONS.items():
        rows = [_describe((*each.names, *each.off), each.hint, each.help) for each in options]
        if not sections:
            rows.insert(0, _describe(("-h", "--help", "--usage"), "", "print usage and exit"))
            rows.insert(1, _describe(("--version",), "", "show version and build info"))
            said = "print list of available devices and exit"
            rows.insert(2, _describe(("--list-devices",), "", said))
        sections.append("\n".join([f"----- {title} -----", "", *rows, ""]))
    return "\n\n".join(sections)


def parse(arguments: Sequence[str]) -> list[tuple[Option, object]]:
    """Read a command line by llama-server's rules: whole names only, the last one wins.

    Raises:
        BadFlagError: an unknown flag, a missing or a wrong value.
    """
    known = {name: each for group in OPTIONS.values() for each in group for name in each.names}
    switched_off = {name: each for group in OPTIONS.values() for each in group for name in each.off}
    settings: list[tuple[Option, object]] = []
    words = iter(arguments)
    for word in words:
        name = word.replace("_", "-") if word.startswith("--") else word
        option = known.get(name)
        if name in switched_off:
            settings.append((switched_off[name], False))
        elif option is None:
            raise BadFlagError(f"error: invalid argument: {name}\n{_OTHERS}")
        else:
            settings.append((option, _value(option, name, words)))
    if not any(option.field == "model.path" for option, _ in settings):
        raise BadFlagError("error: --model is required")
    return settings


def _value(option: Option, name: str, words: Iterator[str]) -> object:
    if option.read is None:
        return True
    try:
        return option.read(next(words))
    except (ValueError, StopIteration) as error:
        said = "expected value for argument" if isinstance(error, StopIteration) else error
        usage = _describe((*option.names, *option.off), option.hint, option.help)
        raise BadFlagError(
            f'error while handling argument "{name}": {said}\n\n'
            f"usage:\n{usage}\n\nto show complete usage, run with -h"
        ) from error
