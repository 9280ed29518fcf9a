# Tests of cdna-fsck: levels, bad byte ranges, exit bits, rebuild; and that it never writes.
import glob
import json
import os
import re

import runner
from runner import CLEAN, ERRORS_LEFT, OPERATIONAL, USAGE, ToolTest, f32, small_model

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'spec', 'vectors')
RECORD_MAGIC = b'\xcdCDN3REC'
TAIL_BYTES = 256
INDEX_ENTRY_BYTES = 64


class FsckTest(ToolTest):
    def setUp(self):
        super().setUp()
        # A and B of several blocks; C of 200 bytes, with a gap after it; D of codes.
        self.tensors = [
            ('a', 'F32', [700, 512], f32(1, 1000) * 358 + f32(2, 400)),
            ('b', 'U8', [2000, 1000], runner.random.Random(1).randbytes(2000000)),
            ('c', 'F32', [50], f32(3, 50)),
            ('d.weight', 'F32', [128, 96], f32(4, 128 * 96)),
        ]
        self.write_model('m.safetensors', self.tensors)
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--keep-exact', '[ab]')
        self.data = self.read('m.cdna')
        self.root = self.data[-40:-8].hex()

    def place_of(self, name):
        (data,) = (tensor[3] for tensor in self.tensors if tensor[0] == name)
        begin = self.data.find(data)
        self.assertGreater(begin, 0)
        return begin, begin + len(data)

    def flipped(self, *positions):
        data = bytearray(self.data)
        for position in positions:
            data[position] ^= 0x10
        return self.write('bad.cdna', data)

    def problems(self, *arguments, code=ERRORS_LEFT):
        return self.fsck('bad.cdna', *arguments, code=code)[0]['problems']

    def assert_found(self, position, *arguments, rule=None):
        problems = self.problems(*arguments)
        ranges = [problem['bytes'] for problem in problems if problem['bytes']]
        self.assertTrue(any(begin <= position < end for begin, end in ranges), (position, problems))
        if rule:
            self.assertIn(rule, [problem['rule'] for problem in problems])


class CheckTest(FsckTest):
    def test_an_intact_file_is_complete_and_valid_at_every_level(self):
        for options, level in (([], 'standard'), (['--quick'], 'quick'), (['--deep'], 'deep')):
            out, err = self.run_tool('cdna-fsck', 'm.cdna', *options)
            self.assertEqual(err, '')
            self.assertIn('m.cdna: complete, valid', out)
            self.assertIn(self.root, out)
            document = json.loads(self.run_tool('cdna-fsck', 'm.cdna', '--json', *options)[0])
            self.assertEqual(
                (document['schema'], document['level'], document['exit_code']), ('cdna.fsck/1', level, CLEAN)
            )
            (file,) = document['files']
            self.assertEqual(
                (file['file'], file['complete'], file['valid'], file['root'], file['problems']),
                ('m.cdna', True, True, self.root, []),
            )
            self.assertEqual(file['blocks_checked'] > 0, level != 'quick')

    def test_a_flipped_byte_in_a_block_is_listed_with_its_range(self):
        for name in 'abc':
            begin, end = self.place_of(name)
            for position in (begin, (begin + end) // 2, end - 1):
                self.flipped(position)
                self.assertEqual(self.problems('--quick', code=CLEAN), [])
                for options in ([], ['--deep']):
                    self.assert_found(position, *options, rule='B1')
                    (problem,) = self.problems(*options)
                    self.assertEqual((problem['item'], problem['class']), (name, 'corrupt'))
                    self.assertLessEqual(problem['bytes'][1] - problem['bytes'][0], 1 << 20)

    def test_the_text_names_file_tensor_and_range(self):
        begin, _ = self.place_of('a')
        self.flipped(begin + 7)
        out, _ = self.run_tool('cdna-fsck', 'bad.cdna', code=ERRORS_LEFT)
        first, last, end = out.split('\n')
        self.assertIn("bad.cdna, 'a'", first)
        low, high = map(int, re.search(r'bytes (\d+)\.\.(\d+)$', first).groups())
        self.assertTrue(low <= begin + 7 < high)
        self.assertIn('bad.cdna: complete, NOT VALID', last)
        self.assertEqual(end, '')

    def test_neighbouring_bad_blocks_are_one_range_and_distant_ones_are_two(self):
        begin, end = self.place_of('b')
        self.flipped(begin, end - 1)
        self.assertEqual(len(self.problems()), 1)
        self.assertEqual(self.problems()[0]['bytes'], [begin, end])
        other, _ = self.place_of('a')
        self.flipped(begin, other)
        self.assertEqual({problem['item'] for problem in self.problems()}, {'a', 'b'})

    def test_a_flipped_byte_in_a_gap_is_seen_by_deep_only(self):
        _, end = self.place_of('c')
        gap_end = (end + 63) // 64 * 64
        self.assertEqual(set(self.data[end:gap_end]), {0})
        for position in (end, gap_end - 1):
            self.flipped(position)
            self.assertEqual(self.problems('--quick', code=CLEAN) + self.problems(code=CLEAN), [])
            self.assert_found(position, '--deep', rule='G1')

    def test_a_flipped_byte_in_a_record_is_seen_by_deep_only(self):
        position = self.data.find(RECORD_MAGIC)
        while position > 0:
            for at in (position, position + 33, position + 70):
                self.flipped(at)
                self.assertEqual(self.problems('--quick', code=CLEAN) + self.problems(code=CLEAN), [])
                self.assert_found(at, '--deep', rule='R1')
            position = self.data.find(RECORD_MAGIC, position + 1)

    def test_a_flipped_byte_in_an_index_is_seen_at_every_level(self):
        _, end = self.place_of('c')
        position = (end + 63) // 64 * 64 + 40
        self.flipped(position)
        for options in (['--quick'], [], ['--deep']):
            self.assert_found(position, *options, rule='X1')
            problem = self.problems(*options)[0]
            self.assertEqual(
                (problem['item'], problem['bytes'][1] - problem['bytes'][0]), ('c', INDEX_ENTRY_BYTES)
            )

    def test_a_flipped_byte_in_head_footer_or_tail_makes_the_file_invalid_at_every_level(self):
        size = len(self.data)
        for position in (0, 9, 63, size - 400, size - TAIL_BYTES, size - 200, size - 30):
            self.flipped(position)
            for options in (['--quick'], [], ['--deep']):
                self.assertEqual(self.fsck('bad.cdna', *options, code=ERRORS_LEFT)[0]['valid'], False)

    def test_deep_sees_every_flipped_byte_of_a_small_file(self):
        self.write_model(
            's.safetensors', [('c', 'F32', [50], f32(3, 50)), ('w', 'F32', [64, 64], f32(4, 4096))]
        )
        self.convert('s.safetensors', 's.cdna', '--encoding', 'cb8')
        self.data = self.read('s.cdna')
        positions = runner.random.Random(1).sample(range(len(self.data)), 300)
        # Every file has its name, so one run checks them all.
        names = []
        for position in positions:
            self.flipped(position)
            names.append(f'{position}.cdna')
            os.rename(self.path('bad.cdna'), self.path(names[-1]))
        for file in self.fsck(*names, '--deep', code=ERRORS_LEFT):
            self.assertEqual((file['valid'], len(file['problems']) > 0), (False, True), file['file'])

    def test_complete_and_valid_are_said_apart(self):
        begin, _ = self.place_of('a')
        self.flipped(begin)
        self.write('short.cdna', self.data[:-1])
        self.write('long.cdna', self.data + b'\0')
        bad, short, good = self.fsck('bad.cdna', 'short.cdna', 'm.cdna', code=ERRORS_LEFT)
        self.assertEqual((bad['complete'], bad['valid']), (True, False))
        self.assertEqual((short['complete'], short['valid'], short['root']), (False, False, None))
        self.assertEqual(short['problems'][0]['class'], 'truncated')
        self.assertEqual((good['complete'], good['valid']), (True, True))
        out, _ = self.run_tool('cdna-fsck', 'short.cdna', 'long.cdna', code=ERRORS_LEFT)
        self.assertIn('short.cdna: incomplete, NOT VALID', out)
        self.assertIn('long.cdna: incomplete, NOT VALID', out)

    def test_what_is_not_cdna_is_not_valid(self):
        self.write('empty.cdna', b'')
        for name in ('empty.cdna', 'm.safetensors'):
            (file,) = self.fsck(name, code=ERRORS_LEFT)
            self.assertEqual((file['valid'], file['problems'][0]['class']), (False, 'not_cdna'))

    def test_the_root_must_be_the_one_expected(self):
        for root in (self.root, self.root.upper()):
            self.fsck('m.cdna', '--root', root)
        other = ('0' if self.root[0] != '0' else '1') + self.root[1:]
        for options in ([], ['--quick'], ['--deep']):
            (file,) = self.fsck('m.cdna', '--root', other, *options, code=ERRORS_LEFT)
            self.assertEqual((file['complete'], file['valid']), (True, False))
            self.assertEqual([problem['class'] for problem in file['problems']], ['root_mismatch'])
        for root in (self.root[1:], self.root + '0', 'g' + self.root[1:], 'root', ' ' + self.root[1:]):
            self.assert_refused(self.run_tool('cdna-fsck', 'm.cdna', '--root', root, code=USAGE), '--root')

    def test_an_empty_root_is_a_usage_error(self):
        # `--root "$ROOT"` with a variable that is not set must not pass as checked.
        self.run_tool('cdna-fsck', 'm.cdna', '--root', '', code=USAGE)

    def test_exit_bits_are_joined_over_the_files(self):
        begin, _ = self.place_of('a')
        self.flipped(begin)
        for files, code in (
            (['m.cdna', 'm.cdna'], CLEAN),
            (['m.cdna', 'bad.cdna'], ERRORS_LEFT),
            (['missing', 'm.cdna'], OPERATIONAL),
            (['m.cdna', 'bad.cdna', 'missing'], ERRORS_LEFT | OPERATIONAL),
            (['missing', 'bad.cdna', 'm.cdna'], 12),
        ):
            reports = self.fsck(*files, code=code)
            self.assertEqual([report['file'] for report in reports], files)
            out, _ = self.run_tool('cdna-fsck', *files, code=code)
            for file in files:
                self.assertIn(f'{file}: ', out)
        self.assertEqual(self.fsck('missing', code=OPERATIONAL)[0]['valid'], False)

    def test_arguments_that_make_no_sense_are_usage_errors(self):
        for arguments in (
            [],
            ['--quick'],
            ['m.cdna', '--quick', '--deep'],
            ['m.cdna', '--medium'],
            ['m.cdna', '--rebuild'],
            ['m.cdna', 'm.cdna', '--rebuild', 'out.cdna'],
            ['m.cdna', '--threads', 'x'],
        ):
            out, err = self.run_tool('cdna-fsck', *arguments, code=USAGE)
            self.assertEqual(out, '', arguments)
            self.assertNotEqual(err, '', arguments)
            self.assertNotIn('out.cdna', self.names())

    def test_files_are_never_changed(self):
        begin, _ = self.place_of('a')
        self.flipped(begin, len(self.data) - 20)
        self.write('cut.cdna', self.data[:-300])
        names = ['m.cdna', 'bad.cdna', 'cut.cdna']
        for name in names:
            os.utime(self.path(name), ns=(10**18, 10**18 + 7))

        def state():
            stats = [os.stat(self.path(name)) for name in names]
            return (
                self.names(),
                [(s.st_size, s.st_mtime_ns, s.st_mode, s.st_ino) for s in stats],
                [runner.sha256_of(self.path(name)) for name in names],
            )

        before = state()
        for options in ([], ['--quick'], ['--deep']):
            self.fsck(*names, *options, code=ERRORS_LEFT)
        self.assertEqual(state(), before)
        self.run_tool('cdna-fsck', 'cut.cdna', '--rebuild', 'out.cdna')
        self.run_tool('cdna-fsck', 'cut.cdna', '--rebuild', 'cut.cdna', code=USAGE)
        os.unlink(self.path('out.cdna'))
        self.assertEqual(state(), before)

    def test_the_report_does_not_depend_on_the_number_of_threads(self):
        begin, end = self.place_of('b')
        self.flipped(begin, end - 1, self.place_of('a')[0], self.place_of('c')[0])
        reports = {
            self.run_tool('cdna-fsck', 'bad.cdna', '--deep', '--threads', threads, code=ERRORS_LEFT)[0]
            for threads in '0128'
        }
        self.assertEqual(len(reports), 1)

    def test_the_vectors_have_the_outcomes_that_they_state(self):
        expected = {}
        for path in glob.glob(os.path.join(VECTORS, 'good', '*.cdna')) + glob.glob(
            os.path.join(VECTORS, 'bad', '*.cdna')
        ):
            with open(path[:-5] + '.json', encoding='utf-8') as file:
                case = json.load(file)
            if 'expected_root' in case:
                continue
            # What later versions add is not an error of the file.
            bad = [case['open'] != 'ok' and case['open']] + [
                case['deep'] not in (None, 'clean') and case['deep']
            ]
            bad += [
                item['status']
                for item in case['items']
                if item['status'] != 'ok' and not item['status']['rule'].startswith('U')
            ]
            expected[path] = any(bad)
        self.assertGreater(len(expected), 50)
        reports = self.fsck('--deep', *expected, code=ERRORS_LEFT)
        self.assertEqual({report['file']: not report['valid'] for report in reports}, expected)


class RebuildTest(FsckTest):
    def rebuild(self, name, *options, code=CLEAN):
        return self.run_tool('cdna-fsck', name, '--rebuild', 'out.cdna', *options, code=code)

    def footer_offset(self):
        return int.from_bytes(self.data[-TAIL_BYTES + 40 : -TAIL_BYTES + 48], 'little')

    def test_a_lost_footer_or_tail_is_rebuilt_byte_for_byte(self):
        footer = self.footer_offset()
        size = len(self.data)
        damaged = {
            'cut byte': self.data[:-1],
            'cut tail': self.data[:-TAIL_BYTES],
            'cut footer': self.data[:footer],
            'half footer': self.data[: footer + 100],
            'zero tail': self.data[:-TAIL_BYTES] + bytes(TAIL_BYTES),
            'zero footer': self.data[:footer] + bytes(size - footer - TAIL_BYTES) + self.data[-TAIL_BYTES:],
            'zero both': self.data[:footer] + bytes(size - footer),
            'longer': self.data + b'garbage' * 100,
            'intact': self.data,
        }
        for name, data in damaged.items():
            with self.subTest(name):
                self.write('lost.cdna', data)
                out, err = self.rebuild('lost.cdna', '--force')
                self.assertEqual(self.read('out.cdna'), self.data)
                self.assertEqual(err, '')
                self.assertIn(self.root, out)
                self.assertNotIn('SALVAGED', out)

    def test_a_file_that_lacks_its_last_records_is_salvaged_and_says_so(self):
        begin, _ = self.place_of('c')
        self.write('lost.cdna', self.data[: begin + 10])
        out, _ = self.rebuild('lost.cdna', code=ERRORS_LEFT)
        self.assertIn('SALVAGED', out)
        self.fsck('out.cdna', '--deep')
        self.assertEqual([tensor['name'] for tensor in self.inspect('out.cdna')['tensors']], ['a', 'b'])

    def test_a_lost_record_hides_what_is_after_it(self):
        first = self.data.find(RECORD_MAGIC)
        second = self.data.find(RECORD_MAGIC, first + 8)
        data = bytearray(self.data[:-TAIL_BYTES])
        data[second + 100] ^= 1
        self.write('lost.cdna', data)
        out, _ = self.rebuild('lost.cdna', code=ERRORS_LEFT)
        self.assertIn('SALVAGED', out)
        self.assertEqual(len(self.inspect('out.cdna')['tensors']), 1)

    def test_damaged_blocks_stay_damaged_and_are_found_afterwards(self):
        begin, _ = self.place_of('a')
        data = bytearray(self.data)
        data[begin + 3] ^= 1
        self.write('lost.cdna', data[:-TAIL_BYTES])
        self.rebuild('lost.cdna')
        self.assertEqual(self.read('out.cdna'), bytes(data))
        (problem,) = self.fsck('out.cdna', code=ERRORS_LEFT)[0]['problems']
        self.assertTrue(problem['bytes'][0] <= begin + 3 < problem['bytes'][1])

    def test_what_cannot_be_rebuilt_leaves_no_file(self):
        damaged_head = b'\0' + self.data[1:-TAIL_BYTES]
        for name, data in (
            ('head.cdna', damaged_head),
            ('empty.cdna', b''),
            ('foreign.cdna', self.read('m.safetensors')),
        ):
            self.write(name, data)
            done = self.rebuild(name, code=ERRORS_LEFT)
            self.assert_refused(done, name)
            self.assertNotIn('out.cdna', self.names())
        self.assert_refused(self.rebuild('missing.cdna', code=OPERATIONAL), 'missing.cdna')

    def test_a_lost_file_says_that_a_rebuild_may_help(self):
        self.write('lost.cdna', self.data[:-TAIL_BYTES])
        self.assertIn('--rebuild', self.run_tool('cdna-fsck', 'lost.cdna', code=ERRORS_LEFT)[0])

    def test_json_with_rebuild_is_json_or_a_usage_error(self):
        self.write('lost.cdna', self.data[:-TAIL_BYTES])
        done = runner.subprocess.run(
            [runner.tool('cdna-fsck'), 'lost.cdna', '--rebuild', 'out.cdna', '--json'],
            cwd=self.folder,
            capture_output=True,
        )
        self.assertIn(done.returncode, (CLEAN, USAGE))
        if done.returncode == CLEAN:
            json.loads(done.stdout)
