"""Mistakes that must not go unnoticed: each takes out a guard of the planner, or of the watch.

In: the sources as they are. Out: what to write instead, what that would lead to, who sees it.
`make mistakes` makes each one in a copy and runs those tests; `test_mistakes.py` keeps the list in
step with the sources. Who changes such a line changes its entry; who adds a guard adds one.
"""

from mistakes.deciding import DECIDING
from mistakes.keeping import KEEPING

MISTAKES = (*DECIDING, *KEEPING)
