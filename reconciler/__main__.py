"""`python -m reconciler`: the same program as the `llm-reconcile` command."""

from reconciler.cli.main import main

main()
