"""`python -m reconciler`: the same program as the `llm-reconcile` command.

In: argv. Out: an exit code. It only calls `cli.main`.
"""

from reconciler.cli.main import main

main()
