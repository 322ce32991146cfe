"""The embedded engine: llama.cpp's own HTTP server (package xllamacpp) as a child program.

In: llama-server's flags, those of `embedded_flags`, with llama-server's checks and defaults.
Out: the server that llama-server would be, until SIGTERM; then exit code 0. Start errors exit 1.
It must stand alone (it runs for weeks, beside other versions of us), and must not load xllamacpp
before it has accepted its flags.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from types import ModuleType

from reconciler import __version__
from reconciler.embedded_flags import (
    DEFAULT_PORT,
    BadFlagError,
    Named,
    Option,
    help_text,
    parse,
)

PACKAGE = "xllamacpp"
MISSING = (
    f"error: the embedded engine needs the package {PACKAGE}: "
    "pip install 'llm-reconcile[embedded]', or put llama-server on PATH"
)


def version() -> str:
    """What `--version` prints: our version and the package's."""
    try:
        found = importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        found = "not installed"
    return f"version: {__version__} (embedded, {PACKAGE} {found})"


def configure(package: ModuleType, settings: Sequence[tuple[Option, object]]) -> object:
    """The settings as xllamacpp's CommonParams (the package brings no types)."""
    params = package.CommonParams()
    # What llama-server's own start-up sets before it reads its flags (arg.cpp of llama.cpp).
    params.port = DEFAULT_PORT
    params.n_parallel = -1
    params.default_template_kwargs = {"preserve_reasoning": "true"}
    for option, value in settings:
        owner = params
        *parents, name = option.field.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        found = value
        if isinstance(value, Named):
            found = getattr(getattr(package, value.kind), value.member)
        setattr(owner, name, found)
        if option.field == "n_ctx" and value == 0:
            # Asked for by name, the model's whole context must not be cut down to what fits.
            params.fit_params_min_ctx = -1
        if option.user_bit:
            kind = package.common_params_sampling_config
            bit = getattr(kind, f"COMMON_PARAMS_SAMPLING_CONFIG_{option.user_bit}")
            params.sampling.user_sampling_config |= int(bit)
    return params


def devices(package: ModuleType) -> str:
    """What `--list-devices` prints: all that it can compute on besides the CPU."""
    found = [
        f"  {one['name']}: {one['description']} ({one['memory_total'] // 2**20} MiB, "
        f"{one['memory_free'] // 2**20} MiB free)"
        for one in package.get_device_info()
        if one["type"] != package.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    ]
    return "\n".join(["Available devices:", *(found or ["  (none)"])])


def serve(settings: Sequence[tuple[Option, object]]) -> int:
    """Load, serve until SIGTERM or SIGINT, stop; the exit code."""
    # While xllamacpp loads, Python runs no handlers: these must end the process by themselves.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import xllamacpp  # noqa: PLC0415 - 100 MB that --help and wrong flags need not load

    try:
        server = xllamacpp.Server(configure(xllamacpp, settings))
    except RuntimeError as error:
        # Its log has said why, unless it could not even begin one.
        sys.stderr.write(f"error: {error}\n")
        return 1
    # llama.cpp forgets a stop that comes before its loop runs, and would never end. What the loop
    # answers proves that it runs; without --metrics this is answered by others, and proves nothing.
    server.handle_metrics()
    wait_for_stop()
    # The server's own stop: generation ends, open streams get their end of file.
    del server
    return 0


def wait_for_stop() -> None:
    """Sleep until SIGTERM or SIGINT; any further one is ignored, for the stop has begun."""
    # A signal may arrive on any of llama.cpp's threads; only the wake-up descriptor sees them all.
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    os.read(reader, 1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def main(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    if {"-h", "--help", "--usage"} & set(arguments):
        sys.stdout.write(help_text())
        return 0
    if "--version" in arguments:
        sys.stdout.write(version() + "\n")
        return 0
    lists = "--list-devices" in arguments
    try:
        settings = [] if lists else parse(arguments)
    except BadFlagError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if importlib.util.find_spec(PACKAGE) is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    if lists:
        import xllamacpp  # noqa: PLC0415 - see above

        sys.stdout.write(devices(xllamacpp) + "\n")
        return 0
    return serve(settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
