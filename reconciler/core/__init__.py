"""The pure core: every decision, no contact with the world.

In: texts and frozen observations. Out: frozen plans and texts.
Nothing here may open a file, ask the clock, start a process or send a request (enforced).
"""
