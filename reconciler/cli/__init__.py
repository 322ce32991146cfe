"""The command line: the only layer that prints, asks and exits.

In: arguments, signals. Out: data on stdout, talk on stderr, an exit code of `errors.ExitCode`.
One module a group of verbs; what a verb means is in `loop`, never here.
"""
