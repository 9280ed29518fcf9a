"""Runs pytest on the package as it is installed, and ends with "N passed, N failed": what is skipped has not passed.

    python run_pytest.py [PYTEST ARGUMENTS]
"""
import sys

import pytest


class Counts:
    """A plugin that counts tests."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def pytest_runtest_logreport(self, report):
        if report.when == "call" and report.passed:
            self.passed += 1
        elif report.failed or report.skipped:
            self.failed += 1

    def pytest_collectreport(self, report):
        self.failed += int(report.failed or report.skipped)


def main():
    counts = Counts()
    code = pytest.main(["-q", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[counts])
    failed = counts.failed or int(code != 0 or counts.passed == 0)
    print(f"{counts.passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
