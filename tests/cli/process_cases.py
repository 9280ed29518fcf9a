# Tests of the tools as processes: memory, signals, terminals, streams, help.
import itertools
import json
import os
import pty
import re
import resource
import select
import signal
import struct
import subprocess
import time

import runner
from runner import CLEAN, INTERRUPTED, OPERATIONAL, USAGE, ToolTest, f32, small_model

MIB = 1 << 20
COMMANDS = (['cdna'], ['cdna', 'convert'], ['cdna', 'export'], ['cdna-inspect'], ['cdna-fsck'])


class LargeModelTest(ToolTest):
    def write_large(self, name, rows, count=9, columns=1024):
        """A model with `count` tensors of F32: 256 KiB of weights, then zeros, which take no disk space."""
        size = rows * columns * 4
        header = {
            f'{i}.weight': {
                'dtype': 'F32',
                'shape': [rows, columns],
                'data_offsets': [i * size, (i + 1) * size],
            }
            for i in range(count)
        }
        text = json.dumps(header).encode()
        text += b' ' * (-len(text) % 8)
        part = f32(1, 65536)
        with open(self.path(name), 'wb') as file:
            file.write(struct.pack('<Q', len(text)) + text)
            for i in range(count):
                file.seek(8 + len(text) + i * size)
                file.write(part)
            file.truncate(8 + len(text) + count * size)
        return name

    def peak_memory(self, *command, data_max=None):
        """Runs a command to its end; the most kB it had resident. `data_max` limits what it may allocate."""

        def limit():
            if data_max:
                resource.setrlimit(resource.RLIMIT_DATA, (data_max, data_max))

        process = subprocess.Popen(
            [runner.tool(command[0]), *command[1:]],
            cwd=self.folder,
            preexec_fn=limit,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        peak = 0
        while process.poll() is None:
            with open(f'/proc/{process.pid}/status', encoding='ascii') as file:
                found = re.search(
                    r'VmHWM:\s+(\d+)', file.read()
                )  # Of this program, not of what it was before exec.
            peak = max(peak, int(found[1]) if found else 0)
            time.sleep(0.005)
        self.assertEqual(process.returncode, CLEAN, process.stderr.read())
        process.stderr.close()
        return peak


class MemoryTest(LargeModelTest):
    # RLIMIT_DATA counts private memory and not mapped files: a model of 604 MB passes under it only in parts.
    def test_conversion_streams(self):
        for name, rows in (('one', 4096), ('four', 16384)):
            self.write_large(f'{name}.safetensors', rows)
        for encoding in ('exact', 'cb8'):
            peaks = [
                self.peak_memory(
                    'cdna',
                    'convert',
                    f'{name}.safetensors',
                    'out.cdna',
                    '--encoding',
                    encoding,
                    '--threads',
                    '2',
                    '--force',
                    data_max=256 * MIB,
                )
                for name in ('one', 'four')
            ]
            self.assertLess(abs(peaks[1] - peaks[0]), 0.2 * peaks[0], (encoding, peaks))

    def test_export_and_the_checks_of_a_large_model_need_little_memory(self):
        self.write_large('m.safetensors', 16384, count=4)
        self.convert('m.safetensors', 'm.cdna', '--encoding', 'cb8', '--threads', '2')
        self.peak_memory('cdna', 'export', 'm.cdna', 'out.safetensors', data_max=128 * MIB)
        self.assertEqual(os.path.getsize(self.path('out.safetensors')) // MIB, 256)
        self.peak_memory('cdna-fsck', 'm.cdna', '--deep', '--threads', '2', data_max=128 * MIB)
        self.peak_memory('cdna-inspect', 'm.cdna', data_max=32 * MIB)
        self.run_tool('cdna-fsck', 'm.cdna', '--rebuild', 'rebuilt.cdna')

    def test_too_little_memory_is_an_operational_failure_without_a_file(self):
        self.write_model('m.safetensors', small_model())
        limit = resource.RLIMIT_AS
        done = subprocess.run(
            [
                runner.tool('cdna'),
                'convert',
                'm.safetensors',
                'm.cdna',
                '--encoding',
                'cb8',
                '--threads',
                '4',
            ],
            cwd=self.folder,
            capture_output=True,
            preexec_fn=lambda: resource.setrlimit(limit, (24 * MIB, 24 * MIB)),
        )
        self.assertIn(done.returncode, (CLEAN, OPERATIONAL), done.stderr)
        if done.returncode == OPERATIONAL:
            self.assertEqual(self.names(), ['m.safetensors'])
            self.assertEqual(done.stderr.count(b'\n'), 1)


class SignalTest(LargeModelTest):
    def stop(self, signal_number, *command):
        """Sends a signal to a command when it has written 4 MiB; returns its exit code."""
        process = subprocess.Popen(
            [runner.tool(command[0]), *command[1:]],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        descriptors = f'/proc/{process.pid}/fd'
        deadline = time.monotonic() + 30

        def has_written():
            for number in os.listdir(descriptors):
                path = os.path.join(descriptors, number)
                try:
                    link = os.readlink(path)
                    # Nameless: "FOLDER/#123 (deleted)"; or a temporary name.
                    if (
                        link.startswith(self.folder)
                        and ('deleted' in link or 'tmp' in os.path.basename(link))
                        and os.stat(path).st_size > 4 * MIB
                    ):
                        return True
                except OSError:
                    pass  # Closed meanwhile.
            return False

        try:
            while process.poll() is None and not has_written() and time.monotonic() < deadline:
                time.sleep(0.002)
            self.assertIsNone(process.poll(), 'ended before it could be stopped')
            process.send_signal(signal_number)
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
        self.assertEqual(out, b'')
        if signal_number != signal.SIGKILL:
            self.assertEqual(err.count(b'\n'), 1, err)
        return process.returncode

    def test_ctrl_c_and_sigterm_leave_no_file(self):
        self.write_large('m.safetensors', 65536)
        self.write_large('n.safetensors', 16384, count=3)
        self.convert('n.safetensors', 'n.cdna', '--encoding', 'cb8')
        before = self.names()
        commands = (
            ['cdna', 'convert', 'm.safetensors', 'out.cdna'],
            ['cdna', 'convert', 'm.safetensors', 'out.cdna', '--encoding', 'cb8'],
            ['cdna', 'export', 'n.cdna', 'out.safetensors', '--dtype', 'f32'],
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            for command in commands:
                self.assertEqual(self.stop(number, *command), INTERRUPTED, command)
                self.assertEqual(self.names(), before)

    def test_ctrl_c_leaves_the_old_destination_as_it_was(self):
        self.write_large('m.safetensors', 65536)
        self.write('out.cdna', b'precious')
        self.assertEqual(
            self.stop(signal.SIGINT, 'cdna', 'convert', 'm.safetensors', 'out.cdna', '--force'), INTERRUPTED
        )
        self.assertEqual(self.read('out.cdna'), b'precious')
        self.assertEqual(self.names(), ['m.safetensors', 'out.cdna'])

    def test_even_a_kill_leaves_no_destination(self):
        self.write_large('m.safetensors', 65536)
        self.assertEqual(
            self.stop(signal.SIGKILL, 'cdna', 'convert', 'm.safetensors', 'out.cdna'), -signal.SIGKILL
        )
        self.assertNotIn('out.cdna', self.names())
        # What it may have left is removed by the next writer.
        self.write_model('small.safetensors', small_model())
        self.convert('small.safetensors', 'out.cdna')
        self.assertEqual(self.names(), ['m.safetensors', 'out.cdna', 'small.safetensors'])

    def test_ctrl_c_stops_a_check_and_a_comparison(self):
        self.write_large('m.safetensors', 16384, count=2)
        self.convert('m.safetensors', 'm.cdna')
        self.convert('m.safetensors', 'cb8.cdna', '--encoding', 'cb8')
        check = ['cdna-fsck', '--deep', '--threads', '1', '--json']
        commands = (
            [*check, *['m.cdna'] * 20],
            [*check, *['cb8.cdna'] * 20, '--reference', 'm.safetensors'],
            ['cdna', 'diff', 'm.safetensors', 'cb8.cdna', '--threads', '1'],
        )
        for number, (name, *arguments) in itertools.product((signal.SIGINT, signal.SIGTERM), commands):
            process = subprocess.Popen(
                [runner.tool(name), *arguments],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            while process.poll() is None:
                with open(f'/proc/{process.pid}/stat', encoding='ascii') as file:
                    if sum(map(int, file.read().rsplit(')', 1)[1].split()[11:13])) >= 10:  # 0.1 s of work.
                        break
                time.sleep(0.002)
            process.send_signal(number)
            out, _ = process.communicate(timeout=20)
            self.assertEqual(process.returncode, INTERRUPTED)
            self.assertEqual(out, b'')


class TerminalTest(LargeModelTest):
    def on_terminal(self, *command, stop_at=None, patience=60, **variables):
        """What a command writes to its terminal; stopped when `stop_at` appears or `patience` ends."""
        environment = {key: value for key, value in os.environ.items() if key not in ('NO_COLOR', 'TERM')}
        environment = {**environment, 'TERM': 'xterm', **variables}
        primary, secondary = pty.openpty()
        process = subprocess.Popen(
            [runner.tool(command[0]), *command[1:]],
            cwd=self.folder,
            stdout=secondary,
            stderr=secondary,
            stdin=subprocess.DEVNULL,
            env=environment,
        )
        os.close(secondary)
        out = b''
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not select.select([primary], [], [], 0.1)[0]:
                continue
            try:
                part = os.read(primary, 65536)
            except OSError:  # The other end is closed.
                break
            out += part
            if stop_at and re.search(stop_at, out):
                process.send_signal(signal.SIGINT)
                stop_at = None
        process.kill()
        process.wait()
        os.close(primary)
        return out.decode()

    def make_evil(self):
        self.write_model(
            'm.safetensors', [('\u202eevil', 'U8', [1], b'x')], {'\x1b]0;title\x07': '\x1b[2J\x9b\r'}
        )
        self.convert('m.safetensors', 'm.cdna')

    def test_without_color_no_escape_reaches_a_terminal(self):
        self.make_evil()
        for command in (
            ['cdna-inspect', 'm.cdna'],
            ['cdna-fsck', 'm.cdna', '--deep'],
            ['cdna', 'convert', 'm.safetensors', 'x.cdna', '--explain'],
            ['cdna', 'export', 'm.cdna', 'x.safetensors'],
            ['cdna-inspect', 'm.cdna', '--json'],
            ['cdna', 'convert', 'm.safetensors', 'm.cdna'],
            ['cdna-inspect', '\x1b[31m'],
        ):
            out = self.on_terminal(*command, NO_COLOR='1').replace('\r\n', '\n')
            self.assertNotEqual(out, '')
            for c in out:
                self.assertTrue(c == '\n' or c.isprintable(), (command, out))

    def test_a_terminal_gets_attributes_from_the_tool_only(self):
        self.make_evil()
        out = self.on_terminal('cdna-inspect', 'm.cdna').replace('\r\n', '\n')
        self.assertEqual(set(re.findall('\x1b[^m]*.', out)), {'\x1b[1m', '\x1b[0m'})
        self.assertEqual(
            out.replace('\x1b[1m', '').replace('\x1b[0m', ''), self.run_tool('cdna-inspect', 'm.cdna')[0]
        )
        self.assertEqual(
            self.on_terminal('cdna-inspect', 'm.cdna', NO_COLOR='').count('\x1b'), 2
        )  # no-color.org: "not an empty string".

    def test_a_dumb_terminal_gets_no_escapes(self):
        self.make_evil()
        self.assertNotIn('\x1b', self.on_terminal('cdna-inspect', 'm.cdna', TERM='dumb'))

    def test_a_file_or_a_pipe_gets_no_escapes(self):
        self.make_evil()
        self.assertNotIn('\x1b', self.run_tool('cdna-inspect', 'm.cdna')[0])

    def test_long_work_shows_progress_on_a_terminal_and_removes_it(self):
        self.write_large('m.safetensors', 16384, count=64)
        out = self.on_terminal(
            'cdna',
            'convert',
            'm.safetensors',
            'x.cdna',
            '--encoding',
            'cb8',
            '--threads',
            '1',
            stop_at=rb'converting +\d+ %',
        )
        self.assertRegex(out, r'\r\x1b\[Kconverting +\d+ %')
        self.assertRegex(out, r'\r\x1b\[K[^\r\x1b]*cancelled[^\r\x1b]*\r\n$')  # The line was removed first.
        self.assertEqual(set(re.findall('\x1b[^A-Za-z]*.', out)), {'\x1b[K'})

    def test_one_long_tensor_shows_progress_too(self):
        self.write_large(
            'm.safetensors', 1 << 20, count=1
        )  # 4.3 GB, but for the hole: much longer than the patience below.
        out = self.on_terminal(
            'cdna',
            'convert',
            'm.safetensors',
            'x.cdna',
            '--encoding',
            'cb8',
            '--threads',
            '1',
            '--codec',
            'zstd',
            stop_at=rb'converting +\d+ %',
            patience=8,
        )
        self.assertRegex(out, r'\r\x1b\[Kconverting +\d\d? %')

    def test_short_work_and_other_streams_show_no_progress(self):
        self.write_model('m.safetensors', small_model())
        self.assertNotIn(
            '%', self.on_terminal('cdna', 'convert', 'm.safetensors', 'm.cdna', '--encoding', 'cb8')
        )
        self.write_large('large.safetensors', 16384, count=4)
        self.assertEqual(
            self.convert('large.safetensors', 'large.cdna', '--encoding', 'cb8', '--threads', '1')[1], ''
        )


class StreamTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.write_model('m.safetensors', small_model())
        self.convert('m.safetensors', 'm.cdna')

    def test_json_is_one_document_and_nothing_else_on_stdout(self):
        commands = (
            ['cdna', 'convert', 'm.safetensors', 'x.cdna', '--json', '--explain', '--force'],
            ['cdna-inspect', 'm.cdna', '--json'],
            ['cdna-fsck', 'm.cdna', '--json'],
            ['cdna-fsck', 'm.cdna', 'm.cdna', '--deep', '--json'],
        )
        for command in commands:
            out, err = self.run_tool(*command)
            self.assertRegex(json.loads(out)['schema'], r'^cdna\.\w+/1$')
            self.assertEqual(err, '')

    def test_failures_write_nothing_to_stdout_in_json_mode(self):
        self.write('bad.safetensors', b'{')
        for command, code in (
            (['cdna', 'convert', 'bad.safetensors', 'y.cdna', '--json'], 4),
            (['cdna', 'convert', 'm.safetensors', 'm.cdna', '--json'], 8),
            (['cdna-inspect', 'bad.safetensors', '--json'], 4),
            (['cdna-inspect', 'missing', '--json'], 8),
        ):
            self.assert_refused(self.run_tool(*command, code=code))

    def test_data_that_cannot_be_written_to_stdout_is_an_operational_failure(self):
        for command in (
            ['cdna-inspect', 'm.cdna'],
            ['cdna-inspect', 'm.cdna', '--json'],
            ['cdna-fsck', 'm.cdna'],
            ['cdna-fsck', 'm.cdna', '--json'],
        ):
            with open('/dev/full', 'wb') as full:
                done = subprocess.run(
                    [runner.tool(command[0]), *command[1:]],
                    cwd=self.folder,
                    stdout=full,
                    stderr=subprocess.PIPE,
                )
            self.assertEqual(done.returncode, OPERATIONAL, command)
            self.assertNotEqual(done.stderr, b'')

    def test_help_is_data_and_documents_the_exit_codes(self):
        for command in COMMANDS:
            out, err = self.run_tool(*command, '--help')
            self.assertEqual(err, '')
            text = ' '.join(out.split())
            for part in ('Exit codes', '0 ', '4 ', '8 ', '16 usage', '130 interrupted'):
                self.assertIn(part, text, command)
        for option in (
            '--encoding',
            '--from',
            '--sidecar',
            '--skip',
            '--shape',
            '--codec',
            '--keep-exact',
            '--threads',
            '--explain',
            '--force',
            '--json',
        ):
            self.assertIn(option, self.run_tool('cdna', 'convert', '--help')[0])
        for option in ('--to', '--dtype', '--force'):
            self.assertIn(option, self.run_tool('cdna', 'export', '--help')[0])
        for option in ('--quick', '--deep', '--root', '--rebuild', '--json'):
            self.assertIn(option, self.run_tool('cdna-fsck', '--help')[0])

    def test_version_is_told(self):
        for command in ('cdna', 'cdna-inspect', 'cdna-fsck'):
            out, _ = self.run_tool(command, '--version')
            self.assertRegex(out, rf'^{command} \d+\.\d+\.\d+\S*, CDNA format version 3\n$')

    def test_programs_are_also_words_of_cdna(self):
        for word in ('inspect', 'fsck'):
            out, _ = self.run_tool('cdna', word, '--version')
            self.assertEqual(out, self.run_tool(f'cdna-{word}', '--version')[0])
            _, err = self.run_tool('cdna', word, 'missing.cdna', code=OPERATIONAL)
            self.assertEqual(err, self.run_tool(f'cdna-{word}', 'missing.cdna', code=OPERATIONAL)[1])
            self.assertIn(f'cdna {word}', self.run_tool('cdna', '--help')[0])

    def test_wrong_arguments_are_usage_errors_on_stderr(self):
        before = self.names()
        for command in (
            ['cdna'],
            ['cdna', 'fly'],
            ['cdna', 'convert'],
            ['cdna', 'convert', 'm.safetensors'],
            ['cdna', 'export', 'm.cdna'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', 'b.cdna'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', '--encoding', 'cb4'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', '--codec', 'gzip'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', '--codec'],
            ['cdna', 'export', 'm.cdna', 'a.safetensors', '--dtype', 'f64'],
            ['cdna', 'export', 'm.cdna', 'a.safetensors', '--json'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', '--fast'],
            ['cdna-inspect'],
            ['cdna-inspect', 'm.cdna', '--deep'],
        ):
            out, err = self.run_tool(*command, code=USAGE)
            self.assertEqual(out, '', command)
            self.assertNotEqual(err, '', command)
            self.assertEqual(self.names(), before)

    def test_an_argument_in_an_error_is_escaped(self):
        for command in (
            ['cdna', 'fly\x1b[31m'],
            ['cdna', 'convert', 'm.safetensors', 'a.cdna', '--codec', '\x1b[31m'],
            ['cdna-fsck', '--\x1b[31m'],
            ['cdna-fsck', 'm.cdna', '--root', '\x1b[31m'],
            ['cdna-inspect', 'm.cdna', '\x1b[31m'],
            ['cdna-inspect', '\x1b[31m'],
        ):
            out, err = self.run_tool(
                *command, code=OPERATIONAL if command == ['cdna-inspect', '\x1b[31m'] else USAGE
            )
            self.assertNotIn('\x1b', out + err, command)
