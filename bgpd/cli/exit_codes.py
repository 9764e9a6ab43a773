"""The exit codes of the command line, and what each means: one table for code, documents and manual pages."""

from __future__ import annotations

DONE, FAILED, WRONG_USAGE, TRY_AGAIN, BAD_CONFIGURATION, INTERRUPTED = 0, 1, 2, 75, 78, 130

EXIT_CODES = {
    DONE: "Done.",
    FAILED: (
        "Not done: standard error says what is wrong, and what to do. Also an answer that is not good. status: the "
        "host is not ready; explain: kernel and RIB differ; why-not: something is missing; what-if: routes would be "
        "lost, or a drain refused; check, reload: the file has errors; simulate: something is wrong after a step, or "
        "an address was unreachable for longer than it may be. Also an output that nobody reads any more."
    ),
    WRONG_USAGE: "Wrong usage: no such command or option, a value that is none, options that do not go together.",
    TRY_AGAIN: "run: the host has no loopback address yet, which the configuration asks for; try again.",
    BAD_CONFIGURATION: "run, flush: the configuration has errors.",
    INTERRUPTED: "Interrupted by Ctrl-C, also monitor and --watch, which end by nothing else.",
}
