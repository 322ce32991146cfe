"""llm-reconcile: a declarative reconciler for local LLM serving.

One YAML file is the desired state; `observe` reads the machine, `core` decides, `execute` acts.
Start reading at `look.py`, then `loop.py`; the words are those of docs/reference/words.md.
"""

__version__ = "0.1.0"
