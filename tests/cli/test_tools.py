# Tests of the command line tools: test_tools.py BUILD_DIR [TEST_NAME_PART]...
import bench_cases  # noqa: F401  The tests; found by module name.
import convert_cases  # noqa: F401
import diff_cases  # noqa: F401
import format_cases  # noqa: F401
import fsck_cases  # noqa: F401
import hostile_cases  # noqa: F401
import inspect_cases  # noqa: F401
import matmul_cases  # noqa: F401
import policy_cases  # noqa: F401
import process_cases  # noqa: F401
import reference_cases  # noqa: F401
import source_cases  # noqa: F401
import runner

if __name__ == '__main__':
    runner.main(
        'bench_cases',
        'convert_cases',
        'policy_cases',
        'source_cases',
        'format_cases',
        'inspect_cases',
        'diff_cases',
        'fsck_cases',
        'reference_cases',
        'process_cases',
        'matmul_cases',
        'hostile_cases',
    )
