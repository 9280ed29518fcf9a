"""Runs the C examples and compares what they print with the reference decoder.

    run_examples.py WRITE_FILE EMBED ZERO_COPY RANGE_SOURCE OWN_THREADS
"""
import math
import pathlib
import re
import subprocess
import sys
import tempfile
from array import array

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'spec/reference'))
import cdna_reference

ROWS, COLS = 256, 128  # As WRITE_FILE makes them.


def elements(path, name):
    file = cdna_reference.File(path)
    values = array('f', file.read_item(file.find(name).number))
    assert len(values) == ROWS * COLS
    return values


def run(*command):
    """Exit code, lines on stdout, stderr."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout.splitlines(), result.stderr


def check(name, is_right, seen):
    if not is_right:
        print(f'{name}: {seen}')
    return is_right


def close(text, value):
    return math.isclose(float(text), value, rel_tol=1e-5, abs_tol=1e-4)


def checks(write_file, embed, zero_copy, range_source, own_threads, model):
    subprocess.run([write_file, model], check=True, stdout=subprocess.DEVNULL)
    for tensor in ('exact', 'compressed'):
        values = elements(model, tensor)
        seen = run(embed, model, tensor)
        expected = [(str(i), values[i * COLS]) for i in range(ROWS)]
        printed = [(line.split()[0], array('f', [float(line.split()[1])])[0]) for line in seen[1]]
        yield check('embed', seen[0] == 0 and printed == expected, seen)
        seen = run(own_threads, model, tensor)
        product = sum((i % 17 - 8) * values[i] for i in range(COLS))
        match = re.fullmatch(r'y\[0\]\[0\] = (\S+), the same bits on 4 threads as on one', '\n'.join(seen[1]))
        yield check('own_threads', seen[0] == 0 and match and close(match[1], product), seen)
        seen = run(range_source, model, tensor)
        yield check('range_source', seen[0] == 0 and seen[1][1:] == [f'{tensor}[0][0] = {values[0]:.9g}'], seen)
        yield check('range_source names the place', seen[1] and all(word in seen[1][0] for word in (
            'http://localhost/model.cdna', f"'{tensor}'", 'block 0,', 'corrupt')), seen)
    seen = run(zero_copy, model, 'exact')
    match = re.fullmatch(rf'{ROWS} x {COLS}, sum (\S+)', '\n'.join(seen[1]))
    yield check('zero_copy', seen[0] == 0 and match and close(match[1], math.fsum(elements(model, 'exact'))), seen)
    seen = run(zero_copy, model, 'compressed')
    yield check('zero_copy refuses codes', seen[0] == 1 and 'no exact F32 tensor' in seen[2], seen)
    for program in (embed, zero_copy, own_threads):
        for arguments, words in (([model, 'missing'], ('missing',)), ([model + '.no', 'exact'], ('model.cdna.no', 'No such file'))):
            seen = run(program, *arguments)
            yield check(program, seen[0] == 1 and all(word in seen[2] for word in words), seen)


def main():
    with tempfile.TemporaryDirectory() as folder:
        results = list(checks(*sys.argv[1:], str(pathlib.Path(folder, 'model.cdna'))))
    failed = results.count(False) + results.count(None)
    print(f'{len(results) - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
