"""Installs a build and uses it from outside the tree, in every way that is documented: test_consumers.py BUILD.

The prefix is moved after the installation: nothing in it may know where it was. Each program reads a vector, and what it
prints is compared with the reference decoder.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import c_header
import reference
import script

CONSUMERS = pathlib.Path(__file__).resolve().parent / 'consumers'
PROGRAM = 'print_tensors.c'


def run(command, **more):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, **more)
    if result.returncode:
        raise AssertionError(f'{" ".join(map(str, command))}\n{result.stdout}{result.stderr}')
    return result.stdout


def needed(program):
    """The shared libraries that it asks for, without versions."""
    return {name.split('.so')[0] for name in re.findall(r'\(NEEDED\).*\[(.*)\]', run(['readelf', '-dW', program]))}


class Consumers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        run(['meson', 'install', '-C', script.build, '--no-rebuild', '--quiet', '--tags', 'devel,runtime,man',
             '--destdir', cls.folder / 'installed'])
        [header] = (cls.folder / 'installed').rglob('cdna.h')
        cls.prefix = cls.folder / 'moved'
        header.parent.parent.rename(cls.prefix)
        [cls.pkgconfig] = (path.parent for path in cls.prefix.rglob('cdna.pc'))
        cls.libdir = cls.pkgconfig.parent
        cls.environment = {**os.environ, 'PKG_CONFIG_PATH': str(cls.pkgconfig), 'CMAKE_PREFIX_PATH': str(cls.prefix)}
        cls.sources = cls.folder / 'sources'
        shutil.copytree(CONSUMERS, cls.sources)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def pkg_config(self, *arguments):
        flags = run(['pkg-config', *arguments], env=self.environment).split()
        return [os.path.normpath(flag) if flag.startswith('/') else
                flag[:2] + os.path.normpath(flag[2:]) if flag[:2] in ('-I', '-L') else flag for flag in flags]

    def compile(self, compiler, source, name, *flags):
        program = self.folder / name
        run([*compiler, self.sources / source, '-o', program, *flags], cwd=self.folder)
        return program

    def check(self, program):
        """It prints what the reference decoder reads."""
        environment = {**self.environment, 'LD_LIBRARY_PATH': str(self.libdir)}
        for vector in (reference.CODES, reference.EXACT):
            first, *lines = run([program, vector], env=environment).splitlines()
            self.assertEqual(first, f'libcdna {c_header.VERSION}, 1')
            printed = []
            for line in lines:
                name, rows, cols, *values = line.split()
                printed.append((name, int(rows), int(cols), [float.fromhex(value) for value in values]))
            self.assertEqual(printed, reference.tensors(vector))

    def test_prefix_has_what_is_documented_and_does_not_know_where_it_is(self):
        for name in ('include/cdna.h', 'include/cdna/reader.hpp', 'share/man/man3/libcdna.3'):
            self.assertTrue((self.prefix / name).exists(), name)
        for name in ('libcdna.so', 'libcdna.so.1', 'libcdna.a', 'libcdna_cpp.a', 'pkgconfig/cdna_cpp.pc',
                     'cmake/cdna/cdnaConfig.cmake', 'cmake/cdna/cdnaConfigVersion.cmake'):
            self.assertTrue((self.libdir / name).exists(), name)
        self.assertEqual({path.name for path in self.libdir.glob('*.a')}, {'libcdna.a', 'libcdna_cpp.a'})
        for path in (*self.pkgconfig.iterdir(), *(self.libdir / 'cmake/cdna').iterdir()):
            self.assertNotRegex(path.read_text('utf-8'), rf'/usr|/tmp|{c_header.ROOT}', path.name)
        public = {path.name for path in (c_header.ROOT / 'libcdna/include/cdna').iterdir()}
        self.assertEqual({path.name for path in (self.prefix / 'include/cdna').iterdir()}, public)

    def test_pkg_config(self):
        self.assertEqual(self.pkg_config('--cflags', 'cdna'), [f'-I{self.prefix}/include'])
        self.assertEqual(self.pkg_config('--libs', 'cdna'), [f'-L{self.libdir}', '-lcdna'])
        program = self.compile(['cc', '-std=c99'], PROGRAM, 'by_pkg_config', *self.pkg_config('--cflags', '--libs', 'cdna'))
        self.assertIn('libcdna', needed(program))
        self.check(program)

    def test_static_by_pkg_config(self):
        flags = self.pkg_config('--static', '--cflags', '--libs', 'cdna')
        self.assertIn('-DCDNA_STATIC', flags)
        program = self.compile(['cc', '-std=c99', '-static'], PROGRAM, 'by_static_pkg_config', *flags)
        self.assertEqual(needed(program), set())
        self.check(program)

    def test_archive_beside_shared_libraries(self):
        """Only libcdna itself is linked statically."""
        flags = [f'{self.libdir}/libcdna.a' if flag == '-lcdna' else flag
                 for flag in self.pkg_config('--static', '--cflags', '--libs', 'cdna')]
        program = self.compile(['cc', '-std=c99'], PROGRAM, 'with_archive', *flags)
        self.assertNotIn('libcdna', needed(program))
        self.assertIn('libzstd', needed(program))
        self.check(program)

    def test_cpp11_includes_the_c_header(self):
        self.check(self.compile(['g++', '-std=c++11', '-Wall', '-Wextra', '-pedantic', '-Werror'], 'print_tensors_cpp11.cpp',
                                'cpp11', *self.pkg_config('--cflags', '--libs', 'cdna')))

    def test_cpp_library_by_pkg_config(self):
        program = self.compile(['g++', '-std=c++20'], 'print_tensors_cpp.cpp', 'cpp20',
                               *self.pkg_config('--cflags', '--libs', 'cdna_cpp'))
        self.assertNotIn('libcdna', needed(program))
        self.check(program)

    def test_cmake(self):
        build = self.folder / 'cmake'
        run(['cmake', '-S', self.sources, '-B', build, '-G', 'Ninja'], env=self.environment)
        run(['ninja', '-C', build])
        for name, is_shared in (('shared', True), ('static', False), ('cpp', False)):
            self.assertEqual('libcdna' in needed(build / name), is_shared, name)
            self.check(build / name)
        commands = json.loads((build / 'compile_commands.json').read_text())
        ours = {flag for entry in commands for flag in entry['command'].split() if re.match(r'-(?![co]$)', flag)}
        self.assertLessEqual(ours, {'-isystem', '-DCDNA_STATIC', '-std=gnu++20', '-std=c++20'})

    def test_cmake_finds_versions_that_this_one_can_serve(self):
        source = self.folder / 'versions'
        source.mkdir()
        major, minor, patch = map(int, c_header.VERSION.split('.'))
        wanted = {f'{major}.0': '1', f'{major}.{minor}': '1', c_header.VERSION: '1', f'{major}.{minor}.{patch + 1}': '0',
                  f'{major}.{minor + 1}': '0', f'{major + 1}.0': '0'}
        source.joinpath('CMakeLists.txt').write_text(
            'cmake_minimum_required(VERSION 3.16)\nproject(versions LANGUAGES C)\n'
            f'foreach(version IN ITEMS {" ".join(wanted)})\n  unset(cdna_DIR CACHE)\n'
            '  find_package(cdna ${version} QUIET)\n  message(STATUS "${version}: ${cdna_FOUND}")\nendforeach()\n')
        text = run(['cmake', '-S', source, '-B', source / 'build'], env=self.environment)
        self.assertEqual(dict(re.findall(r'^-- ([\d.]+): (\d)$', text, re.MULTILINE)), wanted)

    def test_meson(self):
        build = self.folder / 'meson'
        run(['meson', 'setup', build, self.sources], env=self.environment)
        run(['ninja', '-C', build])
        for name, is_shared in (('shared', True), ('static', False)):
            self.assertEqual('libcdna' in needed(build / name), is_shared, name)
            self.check(build / name)


if __name__ == '__main__':
    script.main(__name__)
