# Tests of the tools on hostile input: within 512 MiB and 5 s of CPU time, nothing leaks to a terminal or out of a folder.
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile

import runner
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, safetensors, small_model

MEMORY_BYTES = 512 << 20
CPU_SECONDS = 5
WALL_SECONDS = 120  # For a machine that does other things too; CPU time is what is bounded.
MAKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'hostile', 'make_hostile.py')
# What could act on a terminal, or look like the end of a line, in anything that is printed.
FORBIDDEN = {*map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), '\u061c', '\u200e', '\u200f', '\u2028', '\u2029'}
FORBIDDEN |= {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
FORBIDDEN -= {'\n'}

hostile_folder = None


def setUpModule():
    global hostile_folder
    hostile_folder = tempfile.TemporaryDirectory(prefix='cdna-hostile-')
    subprocess.run([sys.executable, MAKER, '--cases', hostile_folder.name], check=True)


def tearDownModule():
    hostile_folder.cleanup()


def set_limits():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))


def header(text, data=b''):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack('<Q', len(text)) + text + data


class LimitedTest(ToolTest):
    def limited(self, name, *arguments, codes):
        """Runs a tool within the limits; returns (exit code, stdout, stderr), which hold nothing that is forbidden."""
        done = subprocess.run(
            [runner.tool(name), *arguments],
            cwd=self.folder,
            capture_output=True,
            timeout=WALL_SECONDS,
            preexec_fn=set_limits,
        )
        out, err = (data.decode('utf-8', 'surrogateescape') for data in (done.stdout, done.stderr))
        self.assertIn(done.returncode, codes, f'{name} {arguments}\nstdout: {out[:2000]}\nstderr: {err[:2000]}')
        found = FORBIDDEN.intersection(out + err)
        self.assertFalse(found, f'{name} {arguments}')
        self.assertNotIn('out of memory', err)
        return done.returncode, out, err

    def entries_around(self):
        """Everything beside and in this test's folder: (path, type and size) in order."""
        found = []
        for folder, folders, files in os.walk(self.folder):
            for name in folders + files:
                status = os.lstat(os.path.join(folder, name))
                found.append((os.path.join(folder, name), status.st_mode, status.st_size, status.st_mtime_ns))
        return sorted(found)


class HostileFileTest(LimitedTest):
    def files(self):
        with open(os.path.join(hostile_folder.name, 'hostile.json'), encoding='utf-8') as stream:
            for case in json.load(stream):
                if not case['expected_root']:
                    yield case, os.path.join(hostile_folder.name, case['name'] + '.cdna')

    def test_inspect_and_fsck_judge_every_hostile_file_within_the_limits(self):
        count = 0
        for case, path in self.files():
            with self.subTest(case['name']):
                count += 1
                opens = not case['outcome'].startswith('open')
                in_metadata = case['outcome'].endswith('M2')
                seen = CLEAN if opens and not in_metadata else ERRORS_LEFT
                self.limited('cdna-inspect', path, codes=[seen])
                _, out, _ = self.limited('cdna-inspect', path, '--json', codes=[seen])
                if seen == CLEAN:
                    self.assertTrue(out.isascii())
                    self.assertEqual(json.loads(out)['schema'], 'cdna.inspect/1')
                valid = case['outcome'] == 'clean'
                judged = [CLEAN if valid else ERRORS_LEFT]
                self.limited('cdna-fsck', '--deep', '--threads', '1', path, codes=judged)
                _, out, _ = self.limited('cdna-fsck', '--deep', '--threads', '1', '--json', path, codes=judged)
                self.assertTrue(out.isascii())
                (report,) = json.loads(out)['files']
                self.assertEqual(report['valid'], valid)
                if not valid:
                    self.assertEqual(report['problems'][0]['rule'], case['outcome'].split()[-1])
        self.assertGreater(count, 50)

    def test_export_takes_what_is_clean_and_leaves_nothing_of_the_rest(self):
        huge = {'zstd_blocks_16_mib', 'zstd_planes_16_mib'}  # 256 and 512 MiB, rightly.
        for case, path in self.files():
            if case['name'] in huge:
                continue
            with self.subTest(case['name']):
                valid = case['outcome'] == 'clean'
                codes = [CLEAN] if valid else [ERRORS_LEFT]
                if case['name'] == 'kind_now_ignorable':
                    codes = [CLEAN]  # There is no tensor to export.
                self.limited('cdna', 'export', path, 'out.safetensors', codes=codes)
                self.assertEqual(self.names(), ['out.safetensors'] if codes == [CLEAN] else [])
                for name in self.names():
                    os.unlink(self.path(name))

    def test_comparisons_of_every_hostile_file_end_within_the_limits(self):
        self.write_model('small.safetensors', small_model())
        huge = {'zstd_blocks_16_mib', 'zstd_planes_16_mib'}
        for case, path in self.files():
            with self.subTest(case['name']):
                self.limited('cdna', 'diff', path, 'small.safetensors', '--threads', '1', codes=[1, 2])
                self.limited('cdna', 'diff', path, path, '--threads', '1', codes=[0, 2])
                if case['outcome'] != 'clean' or case['name'] in huge:
                    continue
                self.limited('cdna', 'export', path, 'out.safetensors', '--force', codes=[CLEAN])
                arguments = ['out.safetensors', path, '--threads', '1']
                self.limited('cdna', 'diff', *arguments, '--tensors-only', codes=[0])
                # The errors that these files record are not true, their source digests mostly not recorded.
                judged = self.limited('cdna-fsck', '--deep', '--reference', *arguments, codes=[CLEAN, ERRORS_LEFT])
                self.assertIn('problems', judged[1])

    def test_a_rebuild_of_every_hostile_file_ends_within_the_limits(self):
        for case, path in self.files():
            with self.subTest(case['name']):
                self.limited(
                    'cdna-fsck', '--rebuild', 'out.cdna', '--force', path, codes=[CLEAN, ERRORS_LEFT]
                )
                for name in self.names():
                    self.assertEqual(name, 'out.cdna')
                    self.limited('cdna-inspect', name, codes=[CLEAN, ERRORS_LEFT])
                    os.unlink(self.path(name))

    def test_names_that_are_paths_stay_names(self):
        path = os.path.join(hostile_folder.name, 'names_and_texts.cdna')
        before = self.entries_around()
        self.limited('cdna', 'export', path, 'out.safetensors', codes=[CLEAN])
        tensors, _ = runner.read_safetensors(self.read('out.safetensors'))
        self.assertIn('../../etc/passwd', tensors)
        os.unlink(self.path('out.safetensors'))
        self.assertEqual(self.entries_around(), before)
        document = self.inspect(path)
        self.assertEqual({asset['name'] for asset in document['assets']}, set(tensors))

    def test_no_text_of_a_file_forges_a_line(self):
        path = os.path.join(hostile_folder.name, 'names_and_texts.cdna')
        document = self.inspect(path)
        _, out, _ = self.limited('cdna-inspect', path, codes=[CLEAN])
        self.assertEqual(sum(line.startswith('metadata ') for line in out.split('\n')), len(document['metadata']))
        self.assertEqual(sum(line.startswith('asset ') for line in out.split('\n')), len(document['assets']))
        self.assertEqual(out.splitlines(), out.split('\n')[:-1])  # Whatever a reader takes for the end of a line.


ENTRY = '{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'


def tensor(**fields):
    """A header with one tensor of one byte; a field is JSON text, None leaves it out."""
    all_fields = {'dtype': '"U8"', 'shape': '[1]', 'data_offsets': '[0,1]', **fields}
    return '{"t":{%s}}' % ','.join(f'"{name}":{value}' for name, value in all_fields.items() if value is not None)


# Attack: (header, data). What is already in source_cases.py is not here.
HEADERS = {
    'no header': (b'', b'x' * 20),
    'an array': ('[]', b''),
    'a string': ('"t"', b''),
    'no document, all spaces': (' ' * 20, b''),
    'a byte order mark': (b'\xef\xbb\xbf' + tensor().encode(), b'x'),
    'a NUL at the end': (tensor() + '\0', b'x'),
    'a NUL in a name': ('{"a\0b":%s}' % ENTRY, b'x'),
    'two documents': (tensor() + '{}', b'x'),
    'junk after the document': (tensor() + '   ]', b'x'),
    'a comment': (tensor() + '//', b'x'),
    'a trailing comma': ('{"t":%s,}' % ENTRY, b'x'),
    'single quotes': ("{'t':%s}" % ENTRY, b'x'),
    'a name with half a surrogate pair': ('{"\\ud800":%s}' % ENTRY, b'x'),
    'a name of invalid UTF-8': (b'{"\xc0\x80":%s}' % ENTRY.encode(), b'x'),
    'an escaped NUL in a name': ('{"a\\u0000b":%s}' % ENTRY, b'x'),
    'one name in two spellings': ('{"a":%s,"\\u0061":%s}' % (ENTRY, ENTRY), b'x'),
    'a name of 1 MB': ('{"%s":%s}' % ('n' * 1000000, ENTRY), b'x'),
    'objects, 100,000 deep': ('{"a":' * 100000, b''),
    'objects, 100,000 deep and closed, in an unknown field': (tensor(x='{"a":' * 100000 + '1' + '}' * 100000), b'x'),
    'arrays, 100,000 deep, as a shape': (tensor(shape='[' * 100000 + ']' * 100000), b'x'),
    'a shape of a million dimensions': (tensor(shape='[' + '1,' * 1000000 + '1]'), b'x'),
    'offsets that are a million': (tensor(data_offsets='[' + '0,' * 1000000 + '1]'), b'x'),
    'an offset of 100,000 digits': (tensor(data_offsets='[0,' + '1' * 100000 + ']'), b'x'),
    'an offset of 2^64': (tensor(data_offsets='[0,18446744073709551616]'), b'x'),
    'an offset of 2^64 - 1': (tensor(data_offsets='[0,18446744073709551615]'), b'x'),
    'an offset of 1e0': (tensor(data_offsets='[0,1e0]'), b'x'),
    'an offset of -0': (tensor(data_offsets='[-0,1]'), b'x'),
    'an offset of NaN': (tensor(data_offsets='[0,NaN]'), b'x'),
    'an offset that is text': (tensor(data_offsets='["0","1"]'), b'x'),
    'an offset that is true': (tensor(data_offsets='[false,true]'), b'x'),
    'offsets that are an object': (tensor(data_offsets='{"0":0,"1":1}'), b'x'),
    'offsets that are null': (tensor(data_offsets='null'), b'x'),
    'no offsets': (tensor(data_offsets=None), b'x'),
    'a negative dimension': (tensor(shape='[-1]'), b'x'),
    'a dimension of 2^64 + 1': (tensor(shape='[18446744073709551617]'), b'x'),
    'dimensions with the product 2^64 + 1': (tensor(shape='[274177,67280421310721]'), b'x'),
    'dimensions with the product 2^64': (tensor(shape='[4294967296,4294967296]', data_offsets='[0,0]'), b''),
    'bits with the product 2^64 + 8': (tensor(shape='[2305843009213693953]'), b'x'),
    'a shape that is a number': (tensor(shape='1'), b'x'),
    'a shape that is null': (tensor(shape='null'), b'x'),
    'a dtype in lower case': (tensor(dtype='"u8"'), b'x'),
    'a dtype that is a number': (tensor(dtype='2'), b'x'),
    'a dtype that is null': (tensor(dtype='null'), b'x'),
    'a dtype of none': (tensor(dtype='"none"'), b'x'),
    'a dtype of 1 MB': (tensor(dtype='"%s"' % ('U' * 1000000)), b'x'),
    'a tensor that is a list': ('{"t":["U8",[1],[0,1]]}', b'x'),
    'metadata that is a list': ('{"__metadata__":["a"],"t":%s}' % ENTRY, b'x'),
    'metadata with an object in it': ('{"__metadata__":{"a":{}},"t":%s}' % ENTRY, b'x'),
    'metadata with a number in it': ('{"__metadata__":{"a":0},"t":%s}' % ENTRY, b'x'),
    'metadata with null in it': ('{"__metadata__":{"a":null},"t":%s}' % ENTRY, b'x'),
    'metadata twice': ('{"__metadata__":{},"__metadata__":{},"t":%s}' % ENTRY, b'x'),
    'a metadata key twice': ('{"__metadata__":{"a":"1","a":"2"},"t":%s}' % ENTRY, b'x'),
    'a hole before the first tensor': (tensor(data_offsets='[1,2]'), b'xx'),
    'data without tensors': ('{}', b'x'),
    'one tensor in another': ('{"a":%s,"b":{"dtype":"U8","shape":[0],"data_offsets":[1,0]}}' % ENTRY, b'x'),
    'tensors that begin together': ('{"a":%s,"b":%s}' % (ENTRY, ENTRY), b'x'),
    'a name 200,000 times': ('{' + ','.join(['"t":' + ENTRY] * 200000) + '}', b'x'),
}


class HostileSafetensorsTest(LimitedTest):
    def refuse(self, data):
        self.write('bad.safetensors', data)
        _, out, err = self.limited('cdna', 'convert', 'bad.safetensors', 'out.cdna', codes=[ERRORS_LEFT])
        self.assertEqual(out, '')
        self.assertEqual(err.count('\n'), 1)
        self.assertTrue(err.startswith('cdna convert: bad.safetensors'), err[:100])
        self.assertLess(len(err), 6000)  # Never a piece of the file of any length.
        self.assertEqual(self.names(), ['bad.safetensors'])

    def test_bad_headers_are_refused_in_one_line_within_the_limits(self):
        for attack, (text, data) in HEADERS.items():
            with self.subTest(attack):
                self.refuse(header(text, data))

    def test_bad_lengths_are_refused(self):
        good = tensor().encode()
        for length in (0, 1, len(good) - 1, len(good) + 2, 1 << 31, 1 << 32, (1 << 63) - 8, 1 << 63, (1 << 64) - 8):
            with self.subTest(length):
                self.refuse(struct.pack('<Q', length) + good + b'x')
        self.refuse(struct.pack('<Q', (1 << 64) - 1) + good + b'x')

    def test_a_header_over_100_mb_is_refused_before_it_is_read(self):
        self.write('bad.safetensors', struct.pack('<Q', 100_000_001) + b'{')
        os.truncate(self.path('bad.safetensors'), 1 << 30)
        _, _, err = self.limited('cdna', 'convert', 'bad.safetensors', 'out.cdna', codes=[ERRORS_LEFT])
        self.assertIn('100000001 bytes', err)

    def test_a_header_of_100_mb_of_spaces_costs_what_it_is(self):
        text = tensor().encode()
        self.write('m.safetensors', struct.pack('<Q', 100_000_000) + text.ljust(100_000_000) + b'x')
        self.limited('cdna', 'convert', 'm.safetensors', 'm.cdna', codes=[CLEAN])

    def test_a_hundred_thousand_tiny_tensors_are_converted_within_the_limits(self):
        count = 100_000
        entry = '"%07d":{"dtype":"U8","shape":[],"data_offsets":[%d,%d]}'
        text = '{' + ','.join(entry % (n, n, n + 1) for n in range(count)) + '}'
        self.write('m.safetensors', header(text, bytes(count)))
        _, out, _ = self.limited('cdna', 'convert', 'm.safetensors', 'm.cdna', '--threads', '1', codes=[CLEAN])
        self.assertIn(f'{count} tensors', out)

    def test_much_metadata_is_kept_within_the_limits(self):
        metadata = {f'{n:06}': '' for n in range(100_000)}
        self.write_model('m.safetensors', [('t', 'U8', [1], b'x')], metadata)
        self.limited('cdna', 'convert', 'm.safetensors', 'm.cdna', codes=[CLEAN])
        _, out, _ = self.limited('cdna-inspect', 'm.cdna', '--json', codes=[CLEAN])
        self.assertEqual(len(json.loads(out)['metadata']), 100_002)  # And cdna.writer, cdna.options.
        self.limited('cdna', 'export', 'm.cdna', 'back.safetensors', codes=[CLEAN])
        self.assertEqual(runner.read_safetensors(self.read('back.safetensors'))[1], metadata)

    def test_embeddings_that_differ_at_their_ends_are_compared_within_the_limits(self):
        tensors = [(f'{n:03}.embed.weight', 'U8', [1 << 20], bytes((1 << 20) - 1) + bytes([n])) for n in range(200)]
        self.write_model('m.safetensors', tensors)
        self.limited('cdna', 'convert', 'm.safetensors', 'm.cdna', '--threads', '1', codes=[CLEAN])
        self.assertEqual(self.inspect('m.cdna')['aliases'], [])


# Values of a tensor in weight_map that must not be opened.
SHARD_NAMES = (
    '../outside.safetensors',
    '..',
    '.',
    '',
    'sub/inside.safetensors',
    './a.safetensors',
    'a.safetensors/',
    '//a.safetensors',
    '../in/a.safetensors',
    'a.safetensors\0.txt',
    'a.safetensors\0',
)
# And those that name no file of the folder.
ABSENT_NAMES = (
    '..\\outside.safetensors',
    '~/outside.safetensors'.replace('/', '\\'),
    'a.safetensors ',
    ' a.safetensors',
    'A.SAFETENSORS',
    '\u202ea.safetensors',
    '\x1b[31ma.safetensors\n',
    'n' * 255,
    'n' * 256,
    'n' * 100000,
    '%2e%2e%2foutside.safetensors',
    '$HOME',
    '*.safetensors',
    'sub',
)


class HostileFolderTest(LimitedTest):
    def setUp(self):
        super().setUp()
        os.mkdir(self.path('in'))
        os.mkdir(self.path('in/sub'))
        self.write('in/config.json', b'{}')
        self.write_model('in/a.safetensors', [('t', 'U8', [1], b'x')])
        # What a path that is followed would find: all that is wanted.
        self.write_model('outside.safetensors', [('u', 'U8', [1], b'secret')])
        self.write_model('in/sub/inside.safetensors', [('u', 'U8', [1], b'secret')])

    def convert_index(self, document, codes=(ERRORS_LEFT,)):
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.write('in/model.safetensors.index.json', data)
        before = self.entries_around()
        _, out, err = self.limited('cdna', 'convert', 'in', 'out.cdna', codes=codes)
        self.assertEqual(out, '')
        self.assertEqual(err.count('\n'), 1, err[:300])
        self.assertEqual(self.entries_around(), before)
        return err

    def test_an_index_opens_no_file_but_those_of_its_folder(self):
        for name in (*SHARD_NAMES, self.path('outside.safetensors'), '/etc/passwd', '/dev/zero', '/proc/self/mem'):
            with self.subTest(name):
                err = self.convert_index({'weight_map': {'t': 'a.safetensors', 'u': name}})
                self.assertIn("'u'", err)
                self.assertIn('not a plain file name', err)

    def test_names_that_only_look_like_paths_are_no_files(self):
        for name in ABSENT_NAMES:
            with self.subTest(name[:40]):
                self.convert_index(
                    {'weight_map': {'t': 'a.safetensors', 'u': name}}, codes=[ERRORS_LEFT, OPERATIONAL, USAGE]
                )

    def test_bad_indices_are_refused_within_the_limits(self):
        good = b'{"weight_map":{"t":"a.safetensors"}}'
        cases = {
            'no bytes': b'',
            'a byte order mark': b'\xef\xbb\xbf' + good,
            'a NUL': good + b'\0',
            'an array': b'[]',
            'no map': b'{}',
            'an empty map': b'{"weight_map":{}}',
            'a map that is a list': b'{"weight_map":["a.safetensors"]}',
            'a shard that is a number': b'{"weight_map":{"t":0}}',
            'a shard that is a list': b'{"weight_map":{"t":["a.safetensors"]}}',
            'a shard that is an object': b'{"weight_map":{"t":{"a.safetensors":0}}}',
            'two maps': b'{"weight_map":{"t":"a.safetensors"},"weight_map":{"t":"a.safetensors"}}',
            'a tensor twice': b'{"weight_map":{"t":"a.safetensors","t":"a.safetensors"}}',
            'invalid UTF-8': b'{"weight_map":{"t":"a\xff.safetensors"}}',
            '100,000 deep': b'{"weight_map":' * 100000,
            '100,000 deep beside the map': b'{"x":' + b'[' * 100000 + b']' * 100000 + b',' + good[1:],
            'junk after it': good + b'x',
            'a tensor that the shard lacks': b'{"weight_map":{"t":"a.safetensors","v":"a.safetensors"}}',
            'a name of 1 MB': b'{"weight_map":{"%s":"a.safetensors"}}' % (b'n' * 1000000),
        }
        for attack, data in cases.items():
            with self.subTest(attack):
                err = self.convert_index(data)
                self.assertLess(len(err), 6000)

    def test_an_index_of_many_shards_is_refused_at_the_first_that_is_missing(self):
        shards = {f'{n:06}': f'{n:06}.safetensors' for n in range(100_000)}
        self.assertIn('000000.safetensors', self.convert_index({'weight_map': shards}, codes=[OPERATIONAL]))

    def test_an_index_over_its_limit_is_refused_before_it_is_read(self):
        self.write('in/model.safetensors.index.json', b'{')
        os.truncate(self.path('in/model.safetensors.index.json'), 1 << 31)
        _, _, err = self.limited('cdna', 'convert', 'in', 'out.cdna', codes=[ERRORS_LEFT])
        self.assertIn('an index of over', err)

    def test_pipes_devices_folders_and_loops_in_the_place_of_assets_are_left_out(self):
        os.mkfifo(self.path('in/tokenizer.json'))
        os.symlink('/dev/zero', self.path('in/vocab.txt'))
        os.symlink('loop.json', self.path('in/loop.json'))
        os.symlink('in', self.path('in/folder.json'))
        os.mkdir(self.path('in/merges.txt'))
        _, out, _ = self.limited('cdna', 'convert', 'in', 'out.cdna', '--json', codes=[CLEAN])
        notes = ' '.join(json.loads(out)['notes'])
        for name in ('tokenizer.json', 'vocab.txt', 'loop.json', 'folder.json', 'merges.txt'):
            self.assertIn(name, notes)
        self.assertEqual([asset['name'] for asset in self.inspect('out.cdna')['assets']], ['config.json'])

    def test_links_carry_no_file_from_elsewhere_along(self):
        self.write('secret.txt', b'secret')
        self.write('in/sub/inner.txt', b'inner')
        os.symlink('../secret.txt', self.path('in/vocab.txt'))
        os.symlink(self.path('secret.txt'), self.path('in/merges.txt'))
        os.symlink('sub/../../secret.txt', self.path('in/notice.txt'))
        os.symlink('../../blobs/../secret.txt', self.path('in/readme.md'))
        os.symlink('vocab.txt', self.path('in/chain.txt'))
        self.write('in/own.txt', b'own')
        os.symlink('own.txt', self.path('in/license.txt'))
        _, out, _ = self.limited('cdna', 'convert', 'in', 'out.cdna', '--json', codes=[CLEAN])
        notes = json.loads(out)['notes']
        for name in ('vocab.txt', 'merges.txt', 'notice.txt', 'chain.txt'):
            self.assertTrue(any(note.startswith(name + ': a link to a file outside') for note in notes), notes)
        assets = [asset['name'] for asset in self.inspect('out.cdna')['assets']]
        self.assertEqual(assets, ['config.json', 'license.txt', 'own.txt'])
        self.assertNotIn(b'secret', self.read('out.cdna'))

    def test_the_files_of_a_snapshot_in_the_cache_of_the_hub_are_kept(self):
        os.makedirs(self.path('cache/snapshots/1'))
        os.makedirs(self.path('cache/blobs'))
        for name in os.listdir(self.path('in')):
            os.rename(self.path('in/' + name), self.path('cache/blobs/' + name + '0'))
            os.symlink('../../blobs/' + name + '0', self.path('cache/snapshots/1/' + name))
        self.limited('cdna', 'convert', 'cache/snapshots/1', 'out.cdna', codes=[CLEAN])
        self.assertEqual([asset['name'] for asset in self.inspect('out.cdna')['assets']], ['config.json'])

    def test_pipes_and_devices_in_the_place_of_weights_and_configuration_are_refused_at_once(self):
        for name in ('config.json', 'model.safetensors.index.json', 'model.safetensors'):
            for make in (os.mkfifo, lambda path: os.symlink('/dev/zero', path), os.mkdir):
                path = self.path(f'in/{name}')
                saved = self.read(f'in/{name}') if os.path.exists(path) else None
                if saved is not None:
                    os.unlink(path)
                make(path)
                self.limited('cdna', 'convert', 'in', 'out.cdna', codes=[ERRORS_LEFT, OPERATIONAL, USAGE])
                self.assertFalse(os.path.lexists(self.path('out.cdna')))
                (os.rmdir if os.path.isdir(path) else os.unlink)(path)
                if saved is not None:
                    self.write(f'in/{name}', saved)

    def test_a_file_name_of_an_escape_sequence_is_shown_escaped(self):
        self.write('in/\x1b]0;x\x07.bin', b'')
        self.write('in/\u202e\u061ctxt.py', b'')
        _, out, _ = self.limited('cdna', 'convert', 'in', 'out.cdna', '--explain', codes=[CLEAN])
        self.assertIn('\\x1b]0;x\\x07.bin', out)
        self.assertIn('\\xe2\\x80\\xae\\xd8\\x9ctxt.py', out)

    def test_a_model_that_converts_back_is_the_same(self):
        self.write('in/a.safetensors', safetensors(small_model()))
        self.limited('cdna', 'convert', 'in', 'out.cdna', codes=[CLEAN])
        self.limited('cdna', 'export', 'out.cdna', 'back.safetensors', codes=[CLEAN])
        names = {name for name, _, _, _ in small_model()}
        self.assertEqual(set(runner.read_safetensors(self.read('back.safetensors'))[0]), names)
