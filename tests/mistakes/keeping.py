"""Mistakes in what is done, by a watch and with processes."""

from __future__ import annotations

from mistakes.mistake import LOOP, WATCH, Mistake

_EXECUTE = "reconciler/execute.py"
_WATCH = "reconciler/watch/watch.py"
_FORCE = "reconciler/watch/force.py"
_TURN = "reconciler/watch/turn.py"
_BRANCH = "reconciler/drivers/git_branch.py"
_LABELLED = "reconciler/drivers/labelled.py"

KEEPING = (
    # The watch
    Mistake(
        "back-off is not kept: a new watch starts at once what crashes",
        _WATCH,
        "replace(known, crashes=journal.crashes, restarts=journal.restarts)",
        "replace(known, restarts=journal.restarts)",
        WATCH,
    ),
    Mistake(
        "a running watch brings back what `down` has taken down",
        _WATCH,
        "        if self._is_down(journal.wish):\n",
        "        if self._is_down(journal.wish) and not self.force.current:\n",
        WATCH,
    ),
    Mistake(
        "what is in hand is done twice",
        _WATCH,
        "        hands_off = frozenset(self.lanes.models | models)\n",
        "        hands_off = frozenset(models)\n",
        WATCH,
    ),
    Mistake(
        "what failed is tried again without a pause",
        _WATCH,
        "self._retries.items() if one.at > monotonic}\n",
        "self._retries.items() if one.at > math.inf}\n",
        WATCH,
    ),
    Mistake(
        "what a guard holds back is done all the same",
        _WATCH,
        '        return leave_stops_out(plan, f"held back: {why}")\n',
        "        return plan\n",
        WATCH,
    ),
    Mistake(
        "another desired file, or a disk that is too small, does not stop a watch",
        _WATCH,
        "            return replace(plan, steps=())\n",
        "            pass\n",
        WATCH,
    ),
    Mistake(
        "a server that answers slowly is waited for instead of felt",
        _WATCH,
        '        plan = without(plan, idle, "it does not answer")\n',
        "",
        WATCH,
    ),
    Mistake(
        "a server that never got ready stays in the way",
        _WATCH,
        "Keeping({**wedged, **self._late}, self._pins)",
        "Keeping(wedged, self._pins)",
        WATCH,
    ),
    Mistake(
        "one that gets ready too late is replaced all the same, some day",
        _WATCH,
        "        self._forget_late()\n",
        "",
        WATCH,
    ),
    Mistake(
        "a file that cannot be followed ends the watch",
        _WATCH,
        "        except (ReconcileError, OSError) as error:\n",
        "        except LockHeldError as error:\n",
        WATCH,
    ),
    Mistake(
        "a plan that a guard holds back does not wait",
        _FORCE,
        "            if not seen.guards or self._let_through(candidate, journal):\n",
        "            if True:\n",
        WATCH,
    ),
    Mistake(
        "a plan that a guard holds back waits for ever",
        _FORCE,
        "            if not seen.guards or self._let_through(candidate, journal):\n",
        "            if not seen.guards:\n",
        WATCH,
    ),
    Mistake(
        "what was let through once is let through for ever",
        _FORCE,
        "            if now.get(address, Action.NO_OP) is not Action.NO_OP\n",
        "",
        WATCH,
    ),
    Mistake(
        "a lane undoes what an operator did while its server loaded",
        _TURN,
        "            self._refuse_superseded(name, server, address)\n",
        "            pass\n",
        WATCH,
    ),
    Mistake(
        "a watch keeps the run lock while servers load",
        _TURN,
        "        if self._has and self._running and self._running == self._waiting:\n",
        "        if False:\n",
        WATCH,
    ),
    Mistake(
        "what is wanted no more is carried out to its end",
        "reconciler/watch/lanes.py",
        "                recall.set()\n",
        "                pass\n",
        WATCH,
    ),
    Mistake(
        "what is saved between two listenings is not seen",
        "reconciler/drivers/file_events.py",
        "            self._has_begun = True\n            self._told()\n",
        "            self._has_begun = True\n",
        ("tests/drivers/test_file_events.py",),
    ),
    Mistake(
        "a commit that was rejected is tried again",
        _BRANCH,
        "        if tip == followed.rejected:\n",
        "        if tip == followed.rejected and not tip:\n",
        ("tests/drivers/test_git_following.py",),
    ),
    Mistake(
        "a branch that was rewritten is followed",
        _BRANCH,
        '        if base and self._git.run("merge-base", "--is-ancestor", base, tip).code:\n',
        "        if False:\n",
        ("tests/drivers/test_git_following.py",),
    ),
    # Processes
    Mistake(
        "a drain ends at the first look that finds nothing",
        _EXECUTE,
        "            if idle >= IDLE_LOOKS or",
        "            if idle >= 1 or",
        LOOP,
    ),
    Mistake(
        "a drain has no end",
        _EXECUTE,
        "        while self._elapsed() - began < effect.drain_s:\n",
        "        while True:\n",
        LOOP,
    ),
    Mistake(
        "requests still come to a server that is being stopped",
        _EXECUTE,
        "        unrouted = effect.unroute and runtime.unroute(effect.instance, effect.address)\n",
        "        unrouted = False\n",
        LOOP,
    ),
    Mistake(
        "requests come to a server that still loads",
        _EXECUTE,
        "            # Only now: where it could not listen, somebody else may have answered.\n"
        "            if health is Health.READY:\n",
        "            if health in {Health.READY, Health.LOADING}:\n",
        LOOP,
    ),
    Mistake(
        "a server that ignores TERM is left running",
        _EXECUTE,
        "            runtime.kill(server)\n            if not runtime",
        "            if not runtime",
        LOOP,
    ),
    Mistake(
        "what needs a step that failed is done all the same",
        _EXECUTE,
        "    if failed:\n        first",
        "    if failed and not results:\n        first",
        LOOP,
    ),
    Mistake(
        "servers of another root are taken for ours",
        _LABELLED,
        "if one[1][LABEL_ROOT] == self._site.root)",
        "if one[1][LABEL_ROOT])",
        ("tests/drivers/test_processes.py", "tests/drivers/test_strangers.py"),
    ),
    Mistake(
        "a pid is believed without its create time",
        "reconciler/drivers/proc.py",
        "    return ref_of(process.pid) == process\n",
        "    return ref_of(process.pid) is not None\n",
        ("tests/drivers/test_proc.py", "tests/drivers/test_processes.py"),
    ),
    Mistake(
        "a server whose memory is not free yet counts as gone",
        "reconciler/drivers/proc.py",
        'if stat is None or (stat.state in "ZX" and stat.threads <= 1):',
        'if stat is None or stat.state in "ZX":',
        ("tests/drivers/test_proc.py",),
    ),
    Mistake(
        "a slot is taken by two",
        "reconciler/drivers/processes.py",
        "        while (lock := locks.take(path)) is None:\n",
        "        while (lock := locks.take(path) or os.open(path, os.O_RDWR)) is None:\n",
        ("tests/drivers/test_processes.py", "tests/drivers/test_runtime_contract.py"),
    ),
    Mistake(
        "a machine that went down counts as a crash of each server",
        "reconciler/drivers/server_logs.py",
        "    if noted <= booted and (not is_known or note.code in _AT_SHUTDOWN):\n",
        "    if noted < 0:\n",
        ("tests/drivers/test_server_logs.py", "tests/drivers/test_process_notes.py"),
    ),
    Mistake(
        "an nginx is started beside the workers of a dead one",
        "reconciler/drivers/nginx.py",
        "        self._end((*effect.orphans, *self._holders().orphans), cancel)\n",
        "",
        ("tests/drivers/test_nginx.py", "tests/drivers/test_gateway_contract.py"),
    ),
    Mistake(
        "an nginx configuration that is wrong reaches the nginx that runs",
        "reconciler/drivers/nginx.py",
        "            self._check(effect, cancel)\n",
        "            pass\n",
        ("tests/drivers/test_nginx.py", "tests/drivers/test_gateway_contract.py"),
    ),
)
