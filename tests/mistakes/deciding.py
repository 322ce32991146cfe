"""Mistakes in what is decided: guards, cases, order, back-off, liveness."""

from __future__ import annotations

from mistakes.mistake import ENDS, GUARDS, PLANS, Mistake

_GUARDS = "reconciler/core/guards.py"
_BACKOFF = "reconciler/core/backoff.py"
_CASES = "reconciler/core/cases.py"
_OBSTACLES = "reconciler/core/obstacles.py"
_PLANNER = "reconciler/core/planner.py"
_PULSES = "reconciler/watch/pulses.py"

DECIDING = (
    # Plan guards
    Mistake(
        "another desired file takes this root over unasked",
        _GUARDS,
        "        _another_file(plan, observed, allowed),\n",
        "",
        GUARDS,
    ),
    Mistake(
        "any number of servers is stopped unasked",
        _GUARDS,
        "        _too_many_stops(plan, observed, allowed),\n",
        "",
        GUARDS,
    ),
    Mistake(
        "the last server is stopped unasked",
        _GUARDS,
        "not (nothing_left or many)",
        "not many",
        GUARDS,
    ),
    Mistake(
        "any number of servers is replaced unasked",
        _GUARDS,
        "        _too_many_replacements(plan, observed, allowed),\n",
        "",
        GUARDS,
    ),
    Mistake(
        "too much is 60 %",
        _GUARDS,
        "return 100 * count > SHARE_PERCENT * len(running)",
        "return 50 * count > SHARE_PERCENT * len(running)",
        GUARDS,
    ),
    Mistake(
        "`--allow-destroy 2` lets ten through",
        _GUARDS,
        "left or many) or count <= allowed.destroy",
        "left or many) or allowed.destroy",
        GUARDS,
    ),
    Mistake(
        "a protected model is replaced",
        _GUARDS,
        "        *_protected(plan, desired, observed, allowed),\n",
        "",
        GUARDS,
    ),
    Mistake(
        "a protected model is stopped once its entry is gone",
        _GUARDS,
        "((declared | gone) & models)",
        "(declared & models)",
        GUARDS,
    ),
    Mistake(
        "downloads begin that the disk cannot hold",
        _GUARDS,
        "        *_disks(plan, observed),\n",
        "",
        GUARDS,
    ),
    # Resource guards
    Mistake(
        "a server is started behind a stranger's port",
        _OBSTACLES,
        "    found.append(port_obstacle(wanted, scene.observed))\n",
        "",
        PLANS,
    ),
    Mistake(
        "a server is started that memory cannot hold",
        _OBSTACLES,
        "    found.append(memory_obstacle(wanted, scene.observed))\n",
        "",
        PLANS,
    ),
    Mistake(
        "a server is started with bad files",
        _OBSTACLES,
        "    found += file_obstacles(wanted.model_name, scene)\n",
        "",
        PLANS,
    ),
    Mistake(
        "a server is started with a flag that its engine does not know",
        _OBSTACLES,
        "        found += [str(one) for one in problems if one.severity is Severity.ERROR]\n",
        "",
        PLANS,
    ),
    Mistake(
        "a version that failed is tried again and again, each time the old one has to go",
        _OBSTACLES,
        "    if waits is None:\n        return _given_up(case, observed)\n",
        "    if waits is None:\n        return ()\n",
        PLANS,
    ),
    # What is decided, and in which order it is done
    Mistake(
        "what an operator stopped is started",
        _CASES,
        "    if model_of(name) in observed.journal.suspended:\n        wanted = None\n",
        "",
        PLANS,
    ),
    Mistake(
        "a server that is ready and not behind its route stays so",
        _CASES,
        "        if found is Decision.NOTHING and self.keep and not self.keep.routed:\n"
        "            return Decision.AWAIT\n",
        "",
        PLANS,
    ),
    Mistake(
        "the end of a server that served passes for a version tried in vain",
        _CASES,
        "        if found is Decision.NOTHING and self.is_unproven:\n"
        "            return Decision.AWAIT\n",
        "",
        PLANS,
    ),
    Mistake(
        "a server that loads is replaced instead of adopted",
        "reconciler/core/decide.py",
        "return Decision.NOTHING if phase is Phase.READY else Decision.AWAIT",
        "return Decision.NOTHING if phase is Phase.READY else Decision.REPLACE",
        PLANS,
    ),
    Mistake(
        "of two copies the wrong one is kept",
        _CASES,
        "return (stopping, not same, *use,",
        "return (stopping, same, *use,",
        PLANS,
    ),
    Mistake(
        "a wedged server is kept",
        _CASES,
        "    if case.keep and (wedged := observed.wedged.get(case.keep.ref)):\n"
        "        return wedged\n",
        "",
        PLANS,
    ),
    Mistake(
        "requests are cut: nothing is drained",
        _PLANNER,
        "drain_s=0.0 if case.is_wedged or server.phase is Phase.STOPPING else drain_s",
        "drain_s=0.0",
        PLANS,
    ),
    Mistake(
        "a start does not wait for the stop of what it replaces",
        _PLANNER,
        "    needs = {draft.stops[server.ref] for server in before}\n",
        "    needs: set[int] = set()\n",
        PLANS,
    ),
    Mistake(
        "a start does not wait for the stop of who holds its port",
        _PLANNER,
        "    return draft.port_stops.get(port, set()) | (",
        "    return set() and (",
        PLANS,
    ),
    Mistake(
        "a server is stopped before the files of the new one are there",
        _PLANNER,
        "            needs = draft.files.get(case.model_name, needs)\n",
        "            pass\n",
        PLANS,
    ),
    Mistake(
        "a surge stops the old copy before the new one is ready",
        _PLANNER,
        "        draft.also_needs(draft.stops[keep.ref], {number})\n    elif",
        "        pass\n    elif",
        PLANS,
    ),
    Mistake(
        "workers of an nginx without master are left behind",
        "reconciler/core/plan_gateway.py",
        "    orphans = () if seen.master else seen.orphans\n",
        "    orphans = ()\n",
        PLANS,
    ),
    Mistake(
        "a saved plan is carried out after a reboot",
        "reconciler/core/basis.py",
        "    if saved.boot_id != now.boot_id:\n",
        "    if saved.boot_id == '':\n",
        PLANS,
    ),
    # Back-off, given up, liveness
    Mistake(
        "what crashes is started again at once, for ever",
        _BACKOFF,
        "    if not now < crashes.next_at <= now + LONGEST_S:\n",
        "    if now < crashes.next_at:\n",
        ENDS,
    ),
    Mistake(
        "waits do not grow",
        _BACKOFF,
        "FIRST_S * 2.0 ** min(count - 2, 10)",
        "FIRST_S",
        ENDS,
    ),
    Mistake(
        "nothing is ever given up",
        _BACKOFF,
        "    if crashes.fatal >= FATAL_TIMES:\n",
        "    if crashes.fatal >= 10**6:\n",
        ENDS,
    ),
    Mistake(
        "what was given up stays so though its launch is another one",
        _BACKOFF,
        "    if now is None or not crashes or crashes.launch != launch:\n",
        "    if now is None or not crashes:\n",
        ENDS,
    ),
    Mistake(
        "ends are forgotten as soon as a server is ready",
        _BACKOFF,
        "        if ready_s.get(name, 0.0) >= RESET_AFTER_S\n",
        "        if name in ready_s\n",
        ENDS,
    ),
    Mistake(
        "an end counts again at each look",
        "reconciler/core/accounting.py",
        "    return end.at > known.at or end.at <= now < known.at\n",
        "    return True\n",
        ENDS,
    ),
    Mistake(
        "a single failed look makes a server wedged",
        "reconciler/core/liveness.py",
        "FAILURES = 3\n",
        "FAILURES = 1\n",
        ENDS,
    ),
    Mistake(
        "what cannot be known counts as failed",
        "reconciler/core/liveness.py",
        "    if found.verdict in _UNKNOWN:\n"
        "        return Pulse(known.failures, known.reason, made)\n",
        "    if found.verdict in _UNKNOWN:\n"
        "        return Pulse(known.failures + 1, known.reason, made)\n",
        ENDS,
    ),
    Mistake(
        "a server that sleeps is kept awake",
        _PULSES,
        "if is_proven or _sleeps(server):",
        "if is_proven:",
        ENDS,
    ),
)
