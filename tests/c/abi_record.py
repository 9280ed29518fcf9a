# The ABI of libcdna.so as text that can be kept and compared: what abidw says of the functions, the layout of structs, the
# values of constants. It is taken from a library of empty functions that is compiled with debug information from cdna.h
# alone: the compiler checks that the real functions have these types, test_abi.py that they are there under these names.
import pathlib
import re
import subprocess

import c_header

BASELINE = c_header.ROOT / 'bindings/c/abi'
FUNCTIONS, LAYOUT, GROWTH = BASELINE / 'libcdna.abi', BASELINE / 'layout.txt', BASELINE / 'growth.abignore'
SONAME = 'libcdna.so.1'


def run(command, **more):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **more)


def empty_library(header_path, folder):
    """Compiles the functions of a header with nothing in them."""
    header_path = pathlib.Path(header_path).resolve()
    header = c_header.parse(header_path)
    source, library = folder / 'functions.c', folder / SONAME
    bodies = ''.join(f'{function.text} {{ __builtin_trap(); }}\n' for function in header.functions.values())
    source.write_text(f'#include "{header_path}"\n{bodies}')
    run(['cc', '-std=c99', '-g', '-O0', '-fPIC', '-shared', '-nostdlib', f'-Wl,-soname,{SONAME}',
         f'-Wl,--version-script={c_header.ROOT}/bindings/c/exports.map', source, '-o', library], check=True)
    return library


def functions(header_path, folder):
    """What abidw says of them, without places and names of this machine."""
    library = empty_library(header_path, folder)
    text = run(['abidw', '--no-corpus-path', '--no-comp-dir-path', '--no-show-locs', '--no-elf-needed',
                '--type-id-style', 'hash', library], check=True).stdout
    return re.sub(r"path='[^']*functions\.c'", "path='cdna.h'", text)


def layout(header_path, folder):
    """A line for each field of each struct (offset, size), for each struct, and for each constant, as the compiler has it."""
    header = c_header.parse(header_path)
    lines = []
    for name, fields in header.structs.items():
        if fields is None:
            continue
        lines.append(f'printf("{name}: %zu bytes\\n", sizeof({name}));')
        for field in fields:
            lines.append(f'printf("  %zu +%zu {field.name}\\n", offsetof({name}, {field.name}),'
                         f' sizeof((({name}*)0)->{field.name}));')
    lines += [f'printf("{name} = %lld\\n", (long long){name});' for name in header.constants]
    source, program = folder / 'layout.c', folder / 'layout'
    source.write_text('#include <stdio.h>\n#include "%s"\nint main(void) {\n%s\nreturn 0;\n}\n' %
                      (pathlib.Path(header_path).resolve(), '\n'.join(lines)))
    run(['cc', '-std=c99', source, '-o', program], check=True)
    return run([program], check=True).stdout


def sections(layout_text):
    """Structs: name to (size, lines of fields); constants: name to value."""
    structs, constants = {}, {}
    for line in layout_text.splitlines():
        if line.startswith('  '):
            structs[name][1].append(line.strip())
        elif ' = ' in line:
            constants.__setitem__(*line.split(' = '))
        else:
            name, size = re.fullmatch(r'(\w+): (\d+) bytes', line).groups()
            structs[name] = (int(size), [])
    return structs, constants


def layout_breaks(old_text, new_text):
    """Yields what programs that were compiled with the old layout would stumble over."""
    (old_structs, old_constants), (new_structs, new_constants) = sections(old_text), sections(new_text)
    for name, (size, fields) in old_structs.items():
        if name not in new_structs:
            yield f'{name} is gone'
            continue
        new_size, new_fields = new_structs[name]
        if new_fields[:len(fields)] != fields:
            yield f'{name}: a field was removed, moved, renamed or resized'
        elif new_size != size and not fields[0].endswith(' struct_size'):
            yield f'{name} must not grow: it has no struct_size'
        elif any(int(field.split()[0]) < size for field in new_fields[len(fields):]):
            yield f'{name}: a new field lies where the old struct ends'
    for name, value in old_constants.items():
        if new_constants.get(name) != value:
            yield f'{name} was {value} and is {new_constants.get(name, "gone")}'


def function_breaks(new_library):
    """Yields what abidiff has to say, but for functions that came and structs that grew at their end."""
    result = run(['abidiff', '--no-added-syms', '--suppressions', GROWTH, FUNCTIONS, new_library])
    if result.returncode:
        yield result.stdout + result.stderr


def functions_differ(new_library):
    """Whether abidiff sees any difference from the record: not the text, which differs between versions of abidw."""
    return run(['abidiff', FUNCTIONS, new_library]).returncode != 0


def write(folder):
    """Records the ABI as it is."""
    BASELINE.mkdir(exist_ok=True)
    FUNCTIONS.write_text(functions(c_header.HEADER, folder))
    LAYOUT.write_text(layout(c_header.HEADER, folder))
