"""Runs tests with pytest in the environment of this interpreter and states "N passed, N failed".

    VENV/bin/python run_pytest.py [--without MODULE]... PYTEST_ARGUMENT...

A test that was skipped has not passed. It has failed too, unless it wanted a module that this environment is to lack (--without):
then it is counted apart, as skipped. An environment that has such a module fails.
"""
import argparse
import importlib.util
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

MISSING_MODULE = re.compile(r"could not import '([\w.]+)'|([\w.]+) is not installed")


def outcome(case):
    """(kind, name, message) of a test: "passed", "failed", "skipped"."""
    name = f"{case.get('classname')}::{case.get('name')}"
    for child in case:
        if child.tag in ("failure", "error"):
            return "failed", name, child.get("message", "")
        if child.tag == "skipped":
            return "skipped", name, child.get("message", "")
    return "passed", name, ""


def expected(message, without):
    """Whether a test was skipped for a module that is not to be there."""
    missing = MISSING_MODULE.search(message)
    return bool(missing) and (missing[1] or missing[2]).split(".")[0] in without


def count(report, without):
    """Prints what did not pass; returns (passed, failed, skipped)."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        kind, name, message = outcome(case)
        if kind == "skipped" and not expected(message, without):
            print(f"{name} was skipped: {message}")
            kind = "failed"
        counts[kind] += 1
    return counts["passed"], counts["failed"], counts["skipped"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--without", action="append", default=[], metavar="MODULE", help="what this environment is to lack")
    options, arguments = parser.parse_known_args()
    present = [module for module in options.without if importlib.util.find_spec(module)]
    for module in present:
        print(f"{module} is there, and was not to be")
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", f"--junitxml={report}", *arguments]
        code = subprocess.run(command, check=False).returncode
        passed, failed, skipped = count(report, options.without) if report.exists() else (0, 1, 0)
    failed += len(present)
    if skipped:
        print(f"skipped={skipped} (they need {', '.join(options.without)})")
    print(f"{passed} passed, {failed or int(code != 0 or passed == 0)} failed")
    return 1 if failed or code or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
