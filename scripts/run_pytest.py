"""Runs tests with pytest in the environment of this interpreter and states "N passed, N failed".

    VENV/bin/python run_pytest.py [--may-skip REGEX] PYTEST_ARGUMENT...

A test that was skipped has not passed. It has failed too, unless its reason is one that this environment is for (--may-skip): then
it is counted apart, as skipped. No test that is skipped for that reason is a failure as well.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree


def outcome(case):
    """(kind, name, message) of a test: "passed", "failed", "skipped"."""
    name = f"{case.get('classname')}::{case.get('name')}"
    for child in case:
        if child.tag in ("failure", "error"):
            return "failed", name, child.get("message", "")
        if child.tag == "skipped":
            return "skipped", name, f"{child.get('message', '')} {child.text or ''}"  # The reason of a whole file is in the text.
    return "passed", name, ""


def count(report, may_skip):
    """Prints what was skipped and had not to be; returns (passed, failed, skipped)."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        kind, name, message = outcome(case)
        if kind == "skipped" and not (may_skip and re.search(may_skip, message)):
            print(f"{name} was skipped: {message.strip()}")
            kind = "failed"
        counts[kind] += 1
    return counts["passed"], counts["failed"], counts["skipped"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--may-skip", metavar="REGEX", help="reasons for which this environment skips tests")
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-ra", f"--junitxml={report}", *arguments]
        code = subprocess.run(command, check=False).returncode
        passed, failed, skipped = count(report, options.may_skip) if report.exists() else (0, 1, 0)
    if options.may_skip and not skipped:
        print(f"no test was skipped for {options.may_skip!r}: is this the right environment?")
        failed += 1
    if skipped:
        print(f"skipped={skipped} ({options.may_skip})")
    failed = failed or int(code != 0 or passed == 0)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
