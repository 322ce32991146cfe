"""What `doctor` concludes from what was looked at: one case a way that a machine can be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from builders import desired, files_of

from reconciler.core.doctor import (
    LACKS,
    Check,
    Mark,
    doctor_text,
    doctor_values,
    examine,
    is_healthy,
)
from reconciler.core.facts import (
    EngineConfig,
    EngineNature,
    Facts,
    Folder,
    Limits,
    NginxNature,
    Wanted,
)
from reconciler.core.observed_engine import AmbientSetting, ObservedEngine
from reconciler.core.plan import Action, Change, Guard, Plan, ResourceType
from reconciler.core.resources import ObservedGpu, ObservedMemory
from reconciler.core.words import EngineKind, ModelName
from reconciler.drivers.nginx_features import PROBES
from reconciler.errors import Diagnostic, Position, Severity

OK, WARN, BAD = Mark.OK, Mark.WARN, Mark.BAD
GIB = 2**30
LLAMA = ObservedEngine(EngineKind.LLAMA_SERVER, ("/bin/llama-server",))
CARD = ObservedGpu("H100", 80 * GIB)
MEMORY = ObservedMemory(ram_bytes=64 * GIB, available_bytes=60 * GIB, gpus=())
GOOD = Facts(
    python="3.12.1",
    kernel="6.1.0",
    has_pidfd=True,
    engine=LLAMA,
    engine_nature=EngineNature("b1", ()),
    nginx=NginxNature("/bin/nginx", version="1.31.3"),
    memory=MEMORY,
    barred_devices=(),
    limits=Limits(4096, None, 30000),
    state=Folder("/s", "ext4"),
    root=Folder("/r", "ext4"),
    store=Folder("/r/models", "ext4", free_bytes=7 * GIB),
    store_in_git=False,
    wanted=Wanted("desired/x.yaml", state=desired({"a": {}})),
)


def of(name: str, **special: Any) -> list[Check]:
    """The checks of that name, on the good machine with something else about it."""
    return [check for check in examine(replace(GOOD, **special)) if check.name == name]


def one(name: str, **special: Any) -> tuple[Mark, str, str]:
    (check,) = of(name, **special)
    return check.status, check.summary, check.hint


def test_a_good_machine() -> None:
    checks = examine(GOOD)
    assert is_healthy(checks)
    assert doctor_text(checks) == (
        "ok   system         Linux 6.1.0, Python 3.12.1\n"
        "ok   engine         llama-server b1: /bin/llama-server\n"
        "ok   GPU            none; models run on the CPU\n"
        "ok   nginx          1.31.3 with njs: /bin/nginx\n"
        "ok   memory         64.0 GiB of RAM and no GPU; 60.0 GiB can be had now\n"
        "ok   limits         open files: 4096; processes: 30000\n"
        "ok   state folder   /s (ext4); locks work\n"
        "ok   root           /r\n"
        "ok   store          /r/models, 7.0 GiB free\n"
        "ok   desired file   desired/x.yaml: 1 model\n"
        "\nNothing that is needed is missing.\n"
    )


def test_without_a_root_only_the_machine_is_judged() -> None:
    nowhere = replace(GOOD, root=None, store=None, wanted=Wanted(reason="no root here"))
    names = [check.name for check in examine(nowhere)]
    assert names[-2:] == ["state folder", "desired file"]
    said = "`llm-reconcile doctor FILE` looks at what a file needs, too"
    assert examine(nowhere)[-1] == Check("desired file", OK, "no root here", said)


def test_a_kernel_without_pidfd() -> None:
    status, said, hint = one("system", has_pidfd=False)
    assert (status, said) == (BAD, "Linux 6.1.0, Python 3.12.1: processes cannot be held (pidfd)")
    assert "5.3" in hint


@pytest.mark.parametrize(
    ("engine", "version", "expected"),
    [
        (LLAMA, "", (OK, "llama-server of an unknown version: /bin/llama-server", "")),
        (
            ObservedEngine(EngineKind.EMBEDDED),
            "0.1.0 (embedded, xllamacpp 2026.10)",
            (OK, "the embedded one, xllamacpp 2026.10", ""),
        ),
        (
            ObservedEngine(EngineKind.EMBEDDED),
            "",
            (OK, "the embedded one, of an unknown version", ""),
        ),
        (
            ObservedEngine(None, reason="no engine was found: install it: so"),
            "",
            (BAD, "no engine was found", "install it: so"),
        ),
    ],
)
def test_engines(engine: ObservedEngine, version: str, expected: tuple[Mark, str, str]) -> None:
    assert one("engine", engine=engine, engine_nature=EngineNature(version)) == expected


WITH_CARDS = replace(MEMORY, gpus=(CARD, CARD, ObservedGpu("GB10", None)))
ASKING = Wanted("x", state=desired({"a": {"args": {"ngl": "99"}}, "b": {"params": {"ngl": "0"}}}))


@pytest.mark.parametrize(
    ("special", "status", "said"),
    [
        (
            {"memory": WITH_CARDS},
            WARN,
            "2 x H100 (80.0 GiB), GB10; but the engine can use the CPU only",
        ),
        (
            {"memory": WITH_CARDS, "engine_nature": EngineNature("", ("CUDA0: H100",))},
            OK,
            "2 x H100 (80.0 GiB), GB10",
        ),
        ({"memory": WITH_CARDS, "engine_nature": EngineNature()}, OK, "2 x H100 (80.0 GiB), GB10"),
        ({"engine_nature": EngineNature("", ("Vulkan0: odd",))}, OK, "Vulkan0: odd"),
        ({"wanted": ASKING}, WARN, "none; `n-gpu-layers` of a has no effect"),
    ],
)
def test_graphics_cards(special: dict[str, Any], status: Mark, said: str) -> None:
    assert one("GPU", **special)[:2] == (status, said)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("7", "a: there is no card 7 as its CUDA_VISIBLE_DEVICES says; the last one is 2"),
        ("0, 3", "a: there is no card 3 as its CUDA_VISIBLE_DEVICES says; the last one is 2"),
        ("0,2", ""),
        ("", ""),
        ("-1", ""),
        ("GPU-8932f937", ""),
    ],
)
def test_cards_that_are_not_there(value: str, said: str) -> None:
    env = {"CUDA_VISIBLE_DEVICES": value}
    wanted = Wanted("x", state=desired({"a": {"env": env}, "b": {"env": env, "state": "absent"}}))
    nature = EngineNature("", ("CUDA0: H100",))
    *warned, cards = of("GPU", memory=WITH_CARDS, wanted=wanted, engine_nature=nature)
    assert [one.summary for one in warned] == ([said] if said else [])
    assert all(one.status is WARN and "`env`" in one.hint for one in warned)
    assert cards.status is OK


def test_without_a_card_every_number_is_moot() -> None:
    wanted = Wanted("x", state=desired({"a": {"env": {"CUDA_VISIBLE_DEVICES": "7"}}}))
    assert one("GPU", wanted=wanted)[:2] == (OK, "none; models run on the CPU")


def test_devices_that_this_user_may_not_use() -> None:
    first, _ = of("GPU", barred_devices=("/dev/kfd", "/dev/dri/renderD128"))
    assert (first.status, first.summary) == (
        WARN,
        "no right to use /dev/kfd, /dev/dri/renderD128",
    )
    assert "`render`" in first.hint


def test_no_nginx() -> None:
    status, said, hint = one("nginx", nginx=NginxNature(reason="there is none"))
    assert (status, said) == (BAD, "there is none")
    assert "llm-reconcile[nginx]" in hint
    assert "`gateway: false`" in hint


def test_no_nginx_is_needed_without_a_gateway() -> None:
    bare = Wanted("x", state=desired({"a": {"port": 8001}}, gateway=False))
    assert one("nginx", nginx=NginxNature(), wanted=bare) == (
        OK,
        "not needed: `gateway: false`",
        "",
    )


def test_an_nginx_that_lacks_something() -> None:
    nature = NginxNature("/bin/nginx", version="1.22.1", lacks=("js_import", "keepalive 0", "odd"))
    status, said, hint = one("nginx", nginx=nature)
    assert status is BAD
    assert said == "/bin/nginx (1.22.1) does not take what the gateway is made of"
    assert hint.splitlines()[:3] == [
        f"js_import: {LACKS['js_import']}",
        f"keepalive 0: {LACKS['keepalive 0']}",
        "odd: needed",
    ]


def test_each_probe_says_what_it_is_for() -> None:
    assert list(LACKS) == [one.name for one in PROBES]


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("1.20.2", "/bin/nginx is 1.20.2, older than 1.22"),
        ("", "/bin/nginx is of an unknown version, older than 1.22"),
        ("1.x", "/bin/nginx is 1.x, older than 1.22"),
    ],
)
def test_an_old_nginx(version: str, said: str) -> None:
    assert one("nginx", nginx=NginxNature("/bin/nginx", version=version))[:2] == (WARN, said)


def test_memory_that_nobody_tells() -> None:
    assert one("memory", memory=ObservedMemory())[0] is WARN


def test_limits() -> None:
    assert one("limits", limits=Limits())[1] == "open files: any number; processes: any number"
    status, said, hint = one("limits", limits=Limits(256, 0, 100))
    assert (status, said) == (WARN, "raise them for this user")
    assert hint == (
        "open files: 256; the gateway wants 1024 (`ulimit -n`)\n"
        "processes and threads: 100; 1024 are safe (`ulimit -u`)"
    )


@pytest.mark.parametrize(
    "args", [{"mlock": True}, {"load-mode": "mlock"}, {"lm": "mmap+mlock"}], ids=str
)
def test_locked_memory_matters_to_who_wants_it(args: dict[str, Any]) -> None:
    state = desired({"a": {"args": args}, "b": {}, "c": {"args": args, "state": "present"}})
    files = {ModelName("a"): files_of(state.models["a"], size=GIB)}
    wanted = Wanted("x", state=state, files=files)
    assert one("limits", limits=Limits(4096, GIB, None), wanted=wanted)[0] is OK
    assert one("limits", limits=Limits(4096, None, None), wanted=wanted)[0] is OK
    status, _, hint = one("limits", limits=Limits(4096, 2**16, None), wanted=wanted)
    assert status is WARN
    assert hint == "locked memory: 64.0 KiB; a locks 1.0 GiB of weights (`ulimit -l`)"


@pytest.mark.parametrize(
    ("folder", "status", "said"),
    [
        (Folder("/s", "overlay"), OK, "/s (overlay); locks work"),
        (Folder("/s"), OK, "/s; locks work"),
        (Folder("/s", "nfs4"), WARN, "/s is on nfs4: locks and sockets may fail there"),
        (Folder("/s", "fuse.sshfs"), WARN, "/s is on fuse.sshfs: locks and sockets may fail there"),
        (Folder("/s", "nfs4", "locks do not work"), BAD, "locks do not work"),
    ],
)
def test_state_folders(folder: Folder, status: Mark, said: str) -> None:
    assert one("state folder", state=folder)[:2] == (status, said)


def test_roots() -> None:
    found = [one("root", root=Folder("/r", *how))[:2] for how in (("ext4", "no"), ("cifs",))]
    assert found == [(BAD, "no"), (WARN, "/r is on cifs: logs and pid files lie there")]


FAR = desired({"a": {"source": {"repo": "org/far"}, "quant": "Q4"}})


def test_stores() -> None:
    assert one("store", store=Folder("/big"))[:2] == (OK, "/big")
    status, said, hint = one("store", store=Folder("/big", "nfs", free_bytes=GIB))
    assert (status, said) == (WARN, "/big, 1.0 GiB free; on nfs")
    assert hint.endswith("slow")


def test_a_store_that_git_would_show() -> None:
    assert one("store", store_in_git=True)[0] is OK, "nothing is fetched into it"
    status, _, hint = one("store", store_in_git=True, wanted=Wanted("x", state=FAR))
    assert (status, hint) == (WARN, "git does not ignore it: add `models/` to .gitignore")


def config(path: str, *keys: str, reaches_ours: bool) -> EngineConfig:
    settings = tuple(AmbientSetting(key, Position(path, 1, 1)) for key in keys)
    return EngineConfig(path, settings, reaches_ours=reaches_ours)


MACHINE_WIDE = config("/etc/llama.cpp/config.ini", "temp", "ctx-size", reaches_ours=True)


def test_config_files_that_engines_read_by_themselves() -> None:
    assert one("engine config", configs=(MACHINE_WIDE,))[:2] == (
        WARN,
        "/etc/llama.cpp/config.ini is read by every llama-server, ours too: temp, ctx-size",
    )
    own = config("/home/x/.config/llama.cpp/config.ini", "temp", reaches_ours=False)
    assert one("engine config", configs=(own,))[0] is OK
    embedded = ObservedEngine(EngineKind.EMBEDDED)
    assert one("engine config", configs=(MACHINE_WIDE,), engine=embedded)[0] is OK
    assert of("engine config", configs=(replace(MACHINE_WIDE, settings=()),)) == []


def test_variables_that_are_set() -> None:
    names = frozenset({"LLAMA_ARG_TEMP", "HF_TOKEN", "HF_HUB_OFFLINE", "https_proxy", "HOME"})
    assert one("environment", variables=names)[:2] == (OK, "LLAMA_ARG_TEMP does not reach servers")
    offline, asked = of("hub", variables=names)
    assert (offline.status, asked.status) == (WARN, OK)
    assert asked.summary == "asked with HF_TOKEN, https_proxy"
    assert of("hub", variables=frozenset({"HF_HUB_OFFLINE"})) == [offline]
    assert of("hub", variables=frozenset({"HF_ENDPOINT"}))[0].summary == "asked with HF_ENDPOINT"


def test_a_broken_file() -> None:
    wanted = Wanted("x.yaml", mistakes=("x.yaml:1:1: odd\n  do this", "x.yaml:2:1: even"))
    checks = examine(replace(GOOD, wanted=wanted))
    said = "x.yaml:1:1: odd\n  do this\nx.yaml:2:1: even"
    assert checks[-1] == Check("desired file", BAD, "x.yaml: 2 mistakes", said)
    below = "- x.yaml:1:1: odd\n         do this\n       - x.yaml:2:1: even\n"
    assert below in doctor_text(checks)
    assert not is_healthy(checks)


def test_a_file_that_could_not_be_planned() -> None:
    wanted = Wanted("x.yaml", reason="the journal cannot be read", state=desired({}))
    assert one("desired file", wanted=wanted) == (BAD, "the journal cannot be read", "")


def test_what_keeps_the_machine_from_being_as_wanted() -> None:
    engine = ObservedEngine(None, reason="no engine: install it")
    blocked = [
        Change(f"instance.{name}", ResourceType.INSTANCE, name, Action.NO_OP, "", obstacles=why)
        for name, why in {
            "a": ("no engine: install it", "not enough memory"),
            "b": ("no engine: install it",),
            "c": (),
        }.items()
    ]
    guards = tuple(Guard(name, f"{name}, really", "") for name in ("not enough disk", "other"))
    warnings = (
        Diagnostic(Severity.WARNING, "it will be slow"),
        Diagnostic(Severity.WARNING, "no such variable", Position("x", 3, 1), "look"),
        # The check of that file has said it.
        Diagnostic(Severity.WARNING, "it sets temp", MACHINE_WIDE.settings[0].place),
    )
    plan = Plan("x", tuple(blocked), (), warnings)
    checks = examine(
        replace(
            GOOD,
            engine=engine,
            configs=(MACHINE_WIDE,),
            wanted=Wanted("x", state=desired({}), plan=plan, guards=guards),
        )
    )
    at = [check.name for check in checks].index("desired file")
    assert [(check.name, check.status, check.hint) for check in checks[at + 1 :]] == [
        ("instance.a", BAD, "not enough memory"),
        ("disk", BAD, "make room, or choose smaller quants"),
        ("memory", WARN, ""),
        ("desired file", WARN, "look"),
    ]


def test_text_fits_80_columns_and_keeps_paths_whole() -> None:
    path = "/a-long-path-of-a-folder" * 5
    wanted = Wanted("x.yaml", mistakes=("many words " * 20, path))
    text = doctor_text(examine(replace(GOOD, wanted=wanted, has_pidfd=False)))
    lines = text.splitlines()
    assert path in [line.strip(" -") for line in lines]
    assert max(len(line) for line in lines if path not in line) <= 80
    assert lines[-1] == "2 missing or wrong."


def test_the_sum_of_it() -> None:
    checks = examine(replace(GOOD, state=Folder("/s", "nfs")))
    assert is_healthy(checks)
    assert doctor_text(checks).endswith("\n\nNothing that is needed is missing, 1 to look at.\n")


def test_json_form() -> None:
    values: Any = doctor_values(examine(replace(GOOD, has_pidfd=False)))
    assert values["healthy"] is False
    assert values["checks"][1] == {
        "name": "engine",
        "status": "ok",
        "summary": "llama-server b1: /bin/llama-server",
        "hint": "",
    }
