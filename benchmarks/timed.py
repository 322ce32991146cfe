"""Runs one command; says how long it took and how much memory it had at its peak.

In: FILE ARGV... Out: FILE holds `seconds cpu-seconds peak-bytes exit-code`. A program of its own,
started bare (`python -I -S`), because the kernel counts into a child's peak what the process that
started it had: this one is smaller than anything it measures.
"""

import os
import sys
import time


def main() -> None:
    """Run ARGV to its end."""
    report, *argv = sys.argv[1:]
    began = time.perf_counter()
    pid = os.posix_spawnp(argv[0], argv, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    # ru_maxrss counts KiB (getrusage(2)).
    # Not through pathlib: importing it would double the size of this process.
    file = os.open(report, os.O_WRONLY | os.O_CREAT, 0o600)
    os.write(file, f"{seconds} {cpu} {usage.ru_maxrss * 1024} {code}\n".encode())


if __name__ == "__main__":
    main()
