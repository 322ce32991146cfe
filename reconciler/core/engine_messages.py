"""What engines write before they end, as (pattern, reason, what to do, whether it is final).

In: nothing. Out: `MESSAGES`, for `core.causes`. The words are those of llama.cpp (b11434), of its
CUDA, ROCm and Vulkan parts, of the C library and of the shell. The first pattern that fits wins:
what tells of a cause stands before what only follows from it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One thing that an engine says; its named groups fill in the reason and the hint."""

    pattern: re.Pattern[str]
    reason: str
    hint: str = ""
    final: bool = True
    """The same start would end the same way."""


_ROOM = "choose a smaller quant, a smaller `ctx_size`, or end something else that uses that memory"
_FETCH = "fetch it again: `llm-reconcile verify NAME` says whether its bytes are the right ones"
_FLAG = "correct `params` or `args` of the model; the engine's --help says what it takes"
_GPU = "look at the card: its driver's tool (nvidia-smi, rocm-smi) and the kernel's log (`dmesg`)"
_BUILD = "install an engine that was built for this machine, or set `engine.command` to one"

_TABLE: tuple[tuple[str, str, str, bool], ...] = (
    # ---- it was never an engine: the loader and the shell
    (
        r"error while loading shared libraries: (?P<what>[^:\s]+)",
        "the engine lacks the library {what}",
        "install the package that has it, or set LD_LIBRARY_PATH in the model's `env`",
        True,
    ),
    (
        r"version [`'](?P<what>[A-Z]+_[0-9.]+)' not found",
        "the engine wants a newer C library ({what})",
        _BUILD,
        True,
    ),
    (
        r"Exec format error|cannot execute binary file",
        "the engine is not a program of this kind of machine",
        _BUILD,
        True,
    ),
    (
        r"^\S+: (?:line )?\d+: (?P<what>/[^:\n]*): Permission denied",
        "the engine {what} may not be executed",
        "give it the mark of a program: chmod +x",
        True,
    ),
    (
        r"^\S+: (?:line )?\d+: (?P<what>/[^:\n]*): (?:not found|No such file)",
        "the engine {what} is gone",
        "install it again, or set `engine.command`",
        True,
    ),
    (
        r"embedded engine needs the package",
        "the package of the embedded engine is gone",
        "install it again: pip install 'llm-reconcile[embedded]'",
        True,
    ),
    # ---- limits of the kernel
    (r"Too many open files", "too many open files", "raise the limit: `ulimit -n`", True),
    (
        r"Thread creation failed|Resource temporarily unavailable|pthread_create",
        "it could not start a thread",
        "raise the limit of processes (`ulimit -u`), or give it fewer `threads`",
        False,
    ),
    (r"No space left on device", "the disk is full", "make room on it", False),
    (r"Disk quota exceeded", "the quota of the disk is used up", "make room in it", False),
    (
        r"(?:read|mmap|seek) (?:error|failed): Input/output error|Input/output error",
        "a disk failed while it was read",
        "the kernel's log says more (`dmesg`)",
        False,
    ),
    # ---- graphics cards; out of memory first, as it is told as an error of the card too
    (
        (
            r"(?i)(?:cuda|hip|rocm)\w*(?: failed| error)?:? ?.*out of memory"
            r"|ErrorOutOfDeviceMemory|cudaMalloc failed|hipMalloc failed"
            r"|failed to allocate (?:CUDA|ROCm|Vulkan|SYCL|MUSA)\w* buffer"
            r"|(?:CUDA|ROCm) error: (?:the resource allocation failed|\w*STATUS_ALLOC_FAILED)"
        ),
        "not enough memory on the graphics card",
        "end what else is on it, or give it fewer `n-gpu-layers`, a smaller quant or `ctx_size`",
        True,
    ),
    (
        r"driver version is insufficient|unsupported toolchain|Vulkan 1\.2 required",
        "the driver of the graphics card is too old for the engine",
        "update the driver, or install an engine that was built for it",
        True,
    ),
    (
        r"no kernel image is available",
        "the engine was not built for this graphics card",
        _BUILD,
        True,
    ),
    (
        (
            r"no CUDA-capable device|no ROCm-capable device|Found no Vulkan|invalid device: \S+"
            r"|Device with index \d+ does not exist|(?:CUDA|ROCm) error: invalid device ordinal"
            r"|invalid value for main_gpu"
        ),
        "the graphics card that it wants is not there",
        "see CUDA_VISIBLE_DEVICES in its `env`, `device` in its `args`, and the driver",
        True,
    ),
    (
        r"uncorrectable ECC|device lost|ErrorDeviceLost|has fallen off the bus",
        "the graphics card failed",
        _GPU,
        False,
    ),
    (
        r"(?:CUDA|ROCm|MUSA) error: (?P<what>.+)",
        "an error of the graphics card: {what}",
        _GPU,
        False,
    ),
    (r"ggml_vulkan: error (?P<what>\S+)", "an error of the graphics card: {what}", _GPU, False),
    # ---- what it was told
    (
        r"error: invalid argument: (?P<what>\S+)",
        "the engine rejects the flag {what}",
        _FLAG,
        True,
    ),
    (
        (
            r"error while handling argument \"?(?P<what>[^\"\n]+?)\"?:"
            r" (?:error: )?(?P<why>the argument has been removed.*)"
        ),
        "{what}: {why}",
        _FLAG,
        True,
    ),
    (
        (
            r"error while handling argument \"?(?P<what>[^\"\n]+?)\"?:"
            r" (?:error: )?(?P<why>failed to open file.*)"
        ),
        "{what}: {why}",
        "correct the path",
        True,
    ),
    (
        r"error while handling argument \"?(?P<what>[^\"\n]+?)\"?: (?:error: )?(?P<why>.+)",
        "{what}: {why}",
        _FLAG,
        True,
    ),
    (
        (
            r"chat template is not supported|failed to initialize chat template"
            r"|chat template parsing error"
        ),
        "its chat template cannot be used",
        "correct `chat-template` in its `args`, or leave it out: the model has one of its own",
        True,
    ),
    (
        r"quantized V cache (?:was requested, but this )?requires",
        "a quantised V cache needs flash attention",
        "set `flash-attn: on` in its `args`, or leave out `cache-type-v`",
        True,
    ),
    (
        r"couldn't bind (?:to )?(?:HTTP )?server socket|couldn't start HTTP listener",
        "its address is taken",
        "`ss -ltnp` shows who listens on a port; a socket's folder must be there, and ours",
        False,
    ),
    # ---- the files beside the model
    (
        r"failed to load lora adapter '(?P<what>[^'\n]+)",
        "the LoRA adapter {what} cannot be used",
        "it must be there, be a GGUF adapter, and fit this model",
        True,
    ),
    (
        r"failed to load multimodal model|Failed to load CLIP model",
        "the projector (mmproj) cannot be used",
        "it must be there, be a GGUF projector, and fit this model",
        True,
    ),
    (
        r"failed to load draft model, '(?P<what>[^'\n]+)",
        "the draft model {what} cannot be used",
        "it must be there, and have the model's vocabulary",
        True,
    ),
    # ---- the model's own files
    (
        r"failed to open GGUF file '(?P<what>[^'\n]+)' \(No such file",
        "the model file {what} is gone",
        "put it back, or let `apply` fetch it",
        True,
    ),
    (
        r"failed to open GGUF file '(?P<what>[^'\n]+)' \(Permission denied",
        "the model file {what} may not be read",
        "let this user read it",
        True,
    ),
    (
        r"failed to open GGUF file",
        "the model file cannot be opened",
        "look at it by hand: `head -c 4` says GGUF",
        True,
    ),
    (
        r"illegal split file idx",
        "it was given a later shard instead of the first",
        "name the first shard: NAME-00001-of-0000N.gguf",
        True,
    ),
    (
        r"failed to load GGUF split|invalid split (?:file|count)",
        "a shard of the model is missing, or is not one of it",
        _FETCH,
        True,
    ),
    (r"invalid magic characters", "the model file is not a GGUF file", _FETCH, True),
    (r"failed to read magic", "the model file is empty, or no file", _FETCH, True),
    (
        r"match between the host and model endianness",
        "the model file is of the other byte order",
        "take one for little-endian machines",
        True,
    ),
    (
        r"GGUF file is version \d+|GGUFv1 is no longer supported|bad GGUF version",
        "the engine does not read this version of GGUF",
        "update the engine, or take a newer conversion of the model",
        True,
    ),
    (
        (
            r"tensor '[^']+' data is not within the file bounds"
            r"|exceeds remaining file size|unexpectedly reached end of file"
        ),
        "the model file is cut",
        _FETCH,
        True,
    ),
    (
        (
            r"un(?:known|supported) model architecture: '(?P<what>[^']+)'"
            r"|unknown pre-tokenizer type: '(?P<kind>[^']+)'"
        ),
        "the engine is too old for {what}{kind}",
        "update the engine",
        True,
    ),
    (
        r"has invalid ggml type|tensor '[^']+' of type \d+ \(\S+\) has",
        "the engine is too old for this quant",
        "update the engine, or take another quant",
        True,
    ),
    (r"tensors? '[^']+' has invalid data", "the model file is damaged", _FETCH, True),
    (
        (
            r"corrupted model|tensor '[^']+' (?:not found|has wrong shape)|key not found"
            r"|wrong number of tensors"
        ),
        "the model file lacks a part",
        _FETCH,
        True,
    ),
    # ---- memory of the host
    (
        r"failed to initialize the context: (?:failed to allocate.*|std::bad_alloc)",
        "not enough memory for its context",
        "choose a smaller `ctx_size` or fewer `parallel`, or end something else",
        True,
    ),
    (
        (
            r"(?i)out of memory|failed to allocate|unable to allocate|std::bad_alloc"
            r"|Cannot allocate memory|failed to reserve memory|not enough space in the buffer"
        ),
        "not enough memory",
        _ROOM,
        True,
    ),
    # ---- errors in the engine itself
    (
        r"GGML_ASSERT\((?P<what>.+)\) failed",
        "an assertion of the engine failed: {what}",
        "look at its `params` and `args`; its log has the whole of it",
        True,
    ),
    (
        r"what\(\):\s+(?P<what>.+)",
        "the engine gave up: {what}",
        "look at its `params` and `args`; its log has the whole of it",
        True,
    ),
    # ---- the rest, as the engine says it
    (
        r"failed to initialize the context: (?P<what>.+)",
        "its context cannot be made: {what}",
        _FLAG,
        True,
    ),
    (
        r"error loading model: (?P<what>.+)",
        "the model cannot be loaded: {what}",
        "its log says more",
        True,
    ),
    (
        r"exiting due to model loading error",
        "the model cannot be loaded",
        "its log says more",
        True,
    ),
    (r"^error: (?P<what>.+)", "{what}", _FLAG, True),
    (r" E srv +llama_server: (?P<what>.+)", "{what}", "its log says more", True),
)

MESSAGES = tuple(
    Message(re.compile(pattern, re.MULTILINE), reason, hint, final)
    for pattern, reason, hint, final in _TABLE
)
