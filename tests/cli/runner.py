# What the tests of the command line share: the tools, small inputs, and the last line "N passed, N failed".
import hashlib
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
from array import array

CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, INTERRUPTED = 0, 4, 8, 16, 130
SIZES = {
    'BOOL': 1,
    'U8': 1,
    'I8': 1,
    'U16': 2,
    'I16': 2,
    'U32': 4,
    'I32': 4,
    'U64': 8,
    'I64': 8,
    'F16': 2,
    'BF16': 2,
    'F32': 4,
    'F64': 8,
    'C64': 8,
}  # Bytes per element.

build_directory = ''  # Set by main().


def tool(name):
    return os.path.join(build_directory, 'tools', name)


def main(*modules):
    """Runs the tests of the modules with the tools of the build directory that the command line names."""
    global build_directory
    if len(sys.argv) < 2 or not os.path.isdir(sys.argv[1]):
        sys.exit(f'usage: {sys.argv[0]} BUILD_DIR [TEST_NAME_PART]...')
    build_directory = os.path.abspath(sys.argv[1])
    loader = unittest.TestLoader()
    if len(sys.argv) > 2:
        loader.testNamePatterns = [f'*{part}*' for part in sys.argv[2:]]
    suite = unittest.TestSuite(loader.loadTestsFromModule(sys.modules[module]) for module in modules)
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    for test, reason in result.skipped:
        print(f'SKIPPED {test.id()}: {reason}', flush=True)
    bad_tests = {getattr(test, 'test_case', test).id() for test, _ in result.failures + result.errors}
    failed = len(bad_tests) + len(result.unexpectedSuccesses)
    if result.testsRun == 0:
        failed += 1
    passed = max(0, result.testsRun - failed - len(result.skipped))
    sys.stderr.flush()
    print(f'{passed} passed, {failed} failed', flush=True)
    sys.exit(1 if failed else 0)


class ToolTest(unittest.TestCase):
    """A test with a folder of its own, in which the tools run."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix='cdna-cli-')
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def names(self):
        return sorted(os.listdir(self.folder))

    def run_tool(self, name, *arguments, code=CLEAN, **options):
        """Runs a tool in the folder, checks its exit code, and returns (stdout, stderr) as text."""
        options = {'cwd': self.folder, 'capture_output': True, 'timeout': 120, **options}
        done = subprocess.run([tool(name), *map(os.fspath, arguments)], **options)
        out, err = (data.decode('utf-8', 'surrogateescape') for data in (done.stdout, done.stderr))
        self.assertEqual(done.returncode, code, f'{name} {arguments}\nstdout: {out}\nstderr: {err}')
        return out, err

    def convert(self, source, destination, *options, code=CLEAN):
        return self.run_tool('cdna', 'convert', source, destination, *options, code=code)

    def export(self, source, destination, *options, code=CLEAN):
        return self.run_tool('cdna', 'export', source, destination, *options, code=code)

    def inspect(self, file, *globs):
        return json.loads(self.run_tool('cdna-inspect', file, *globs, '--json')[0])

    def fsck(self, *arguments, code=CLEAN):
        document = json.loads(self.run_tool('cdna-fsck', *arguments, '--json', code=code)[0])
        self.assertEqual(document['schema'], 'cdna.fsck/1')
        return document['files']

    def read(self, name):
        with open(self.path(name), 'rb') as file:
            return file.read()

    def write(self, name, data):
        with open(self.path(name), 'wb') as file:
            file.write(data)
        return name

    def write_model(self, name, tensors, metadata=None):
        return self.write(name, safetensors(tensors, metadata))

    def assert_refused(self, done, *parts):
        """The message on stderr has all the parts, is one line, and stdout is empty."""
        out, err = done
        self.assertEqual(out, '')
        for part in parts:
            self.assertIn(part, err)
        self.assertEqual(err.count('\n'), 1, err)
        self.assertTrue(err.endswith('\n'))


def safetensors(tensors, metadata=None):
    """The bytes of a safetensors file of (name, dtype, shape, data) in that order, made without the tools."""
    header = {} if metadata is None else {'__metadata__': metadata}
    end = 0
    for name, dtype, shape, data in tensors:
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [end, end + len(data)]}
        end += len(data)
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + b''.join(data for _, _, _, data in tensors)


def read_safetensors(data):
    """({name: (dtype, shape, bytes)}, metadata), as any reader of the format sees it."""
    (length,) = struct.unpack_from('<Q', data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.pop('__metadata__', {})
    body = data[8 + length :]
    return {
        name: (entry['dtype'], entry['shape'], body[slice(*entry['data_offsets'])])
        for name, entry in header.items()
    }, metadata


def floats(seed, count, scale=0.05):
    """Weights with a normal distribution, as float64."""
    generator = random.Random(seed)
    return [generator.gauss(0, scale) for _ in range(count)]


def f32(seed, count):
    return array('f', floats(seed, count)).tobytes()


def f16(seed, count):
    return struct.pack(f'<{count}e', *floats(seed, count))


def bf16(seed, count):
    data = f32(seed, count)
    return b''.join(data[i + 2 : i + 4] for i in range(0, len(data), 4))


def f64(seed, count):
    return array('d', floats(seed, count)).tobytes()


def small_model(seed=1):
    """Tensors of many roles and dtypes, of which three become cb8."""
    byte = random.Random(seed).randbytes
    return [
        ('embed.word_embeddings.weight', 'F32', [80, 64], f32(seed + 1, 80 * 64)),
        ('layer.0.attention.query.weight', 'F32', [128, 96], f32(seed + 2, 128 * 96)),
        ('layer.0.attention.query.bias', 'F32', [128], f32(seed + 3, 128)),
        ('layer.0.output.weight', 'F16', [64, 100], f16(seed + 4, 6400)),
        ('layer.0.layernorm.weight', 'BF16', [100], bf16(seed + 5, 100)),
        ('conv.weight', 'BF16', [8, 64, 3, 3], bf16(seed + 6, 8 * 64 * 9)),
        ('small.weight', 'F32', [8, 64], f32(seed + 7, 512)),
        ('narrow.weight', 'F32', [100, 63], f32(seed + 8, 6300)),
        ('long', 'F32', [5000], f32(seed + 9, 5000)),
        ('counts.weight', 'I64', [64, 64], byte(64 * 64 * 8)),
        ('scalar', 'F64', [], f64(seed + 10, 1)),
        ('empty.weight', 'F32', [0, 64], b''),
    ]


CB8_OF_SMALL_MODEL = {'conv.weight', 'layer.0.attention.query.weight', 'layer.0.output.weight'}


def limit_private_memory(size_bytes):
    """For preexec_fn: the process gets no more memory of its own; mapped files are not counted."""
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, size_bytes))


def sha256_of(path):
    with open(path, 'rb') as file:
        return hashlib.sha256(file.read()).hexdigest()
