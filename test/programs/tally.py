"""What the tests of the programs count, and how they end: with `N passed, N failed`, and status 1 if any failed."""
import subprocess
import sys

failed = passed = 0


def check(name, holds, *why):
    """One thing that must hold; if it does not, `why` says what was found."""
    global failed, passed
    failed, passed = (failed, passed + 1) if holds else (failed + 1, passed)
    print(*(('ok -', name) if holds else ('not ok -', name, *why)))


def test(act):
    """A function that asserts; its docstring says what must hold."""
    try:
        act()
        check(act.__doc__, True)
    except (AssertionError, subprocess.TimeoutExpired) as problem:
        check(act.__doc__, False, '-', problem)


def end():
    print(f'{passed} passed, {failed} failed')
    sys.exit(1 if failed else 0)
