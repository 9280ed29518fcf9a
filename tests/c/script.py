# What the test scripts of the C interface share: the build folder of the command line, and the last line.
import pathlib
import sys
import unittest

build = pathlib.Path()  # Set by main().


def main(module):
    """Runs the tests of a module, or those whose names contain the further arguments."""
    global build
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1], 'build.ninja').exists():
        sys.exit(f'usage: {sys.argv[0]} BUILD_DIR [TEST_NAME_PART]...')
    build = pathlib.Path(sys.argv[1]).resolve()
    loader = unittest.TestLoader()
    if len(sys.argv) > 2:
        loader.testNamePatterns = [f'*{part}*' for part in sys.argv[2:]]
    result = unittest.TextTestRunner(verbosity=1).run(loader.loadTestsFromModule(sys.modules[module]))
    failed = len({getattr(test, 'test_case', test).id() for test, _ in result.failures + result.errors})
    failed += len(result.skipped) + len(result.unexpectedSuccesses) + (result.testsRun == 0)
    sys.stderr.flush()
    print(f'{max(0, result.testsRun - failed)} passed, {failed} failed', flush=True)
    sys.exit(1 if failed else 0)
