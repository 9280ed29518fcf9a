# What cdna.h declares: functions, structs, constants; read from the preprocessed header, which keeps to a plain style.
import dataclasses
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
HEADER = ROOT / 'bindings/c/cdna.h'
VERSION = re.search(r"^  version: '([\d.]+)'", (ROOT / 'meson.build').read_text(), re.MULTILINE)[1]  # Of the library.


@dataclasses.dataclass
class Variable:
    """A field or a parameter: `char message[512]` is ('char', 'message', 512)."""
    type: str
    name: str
    count: int = 0          # Of an array; 0: none.
    callback: object = None  # A Function, where it is a pointer to one.


@dataclasses.dataclass
class Function:
    name: str
    returns: str
    parameters: list
    text: str = ''


@dataclasses.dataclass
class Header:
    functions: dict  # By name, as all of these.
    structs: dict    # Lists of Variable; None for opaque ones.
    constants: dict
    aliases: dict    # typedef int32_t cdna_code
    callbacks: dict  # typedef void (*cdna_parallel_for)(...)
    text: str        # Without comments, directives and other headers.


def preprocessed(path):
    """The header's own text. Its macros stay out."""
    command = ['cc', '-E', '-std=c99', '-DCDNA_STATIC', '-x', 'c', str(path)]
    lines, own = [], False
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        marker = re.match(r'# \d+ "([^"]*)"', line)
        if marker:
            own = marker[1] == str(path)
        elif own:
            lines.append(line)
    return '\n'.join(lines)


def split(text, separator):
    """The parts of `text` at separators that are in no brackets."""
    parts, depth = [''], 0
    for character in text:
        depth += (character in '({[') - (character in ')}]')
        if character == separator and depth == 0:
            parts.append('')
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def callback(text):
    """`void (*close)(void* context)`, or None."""
    match = re.fullmatch(r'(.+?)\s*\(\*(\w+)\)\s*\((.*)\)', text, re.DOTALL)
    return Function(match[2], plain(match[1]), variables(match[3]), text) if match else None


def plain(type_text):
    """One spelling of a type: 'const char*'."""
    return re.sub(r'\s*\*', '*', ' '.join(type_text.split()))


def variables(text, separator=','):
    found = []
    for part in split(text, separator):
        if part == 'void':
            continue
        pointed = callback(part)
        if pointed:
            found.append(Variable('callback', pointed.name, callback=pointed))
            continue
        match = re.fullmatch(r'(.+?)(\w+)(?:\[(\d+)\])?', ' '.join(part.split()), re.DOTALL)
        if not match or ',' in match[1]:
            raise ValueError(f'not one declaration: {part}')
        found.append(Variable(plain(match[1]), match[2], int(match[3] or 0)))
    return found


def parse(path=HEADER):
    text = preprocessed(path)
    header = Header({}, {}, {}, {}, {}, text)
    for statement in split(text, ';'):
        enum = re.fullmatch(r'enum\s*\{(.*)\}', statement, re.DOTALL)
        struct = re.fullmatch(r'typedef struct (\w+)\s*\{(.*)\}\s*(\w+)', statement, re.DOTALL)
        opaque = re.fullmatch(r'typedef struct (\w+) (\w+)', statement)
        pointed = callback(statement.removeprefix('typedef '))
        alias = re.fullmatch(r'typedef (\w+) (\w+)', statement)
        function = re.fullmatch(r'([\w\s*]+?)\s*\b(\w+)\((.*)\)', statement, re.DOTALL)
        if enum:
            for name, value in re.findall(r'(\w+)\s*=\s*(\S+?)(?=,|\s|$)', enum[1]):
                header.constants[name] = int(value, 0)
        elif struct:
            assert struct[1] == struct[3], statement
            header.structs[struct[1]] = variables(struct[2], ';')
        elif opaque:
            assert opaque[1] == opaque[2], statement
            header.structs[opaque[1]] = None
        elif statement.startswith('typedef') and pointed:
            header.callbacks[pointed.name] = pointed
        elif alias:
            header.aliases[alias[2]] = alias[1]
        elif function:
            header.functions[function[2]] = Function(function[2], plain(function[1]), variables(function[3]), statement)
        else:
            raise ValueError(f'what is this? {statement}')
    # Numbers that no enum of C99 can hold. The version is no constant: it grows.
    for name, value in re.findall(r'^#define (CDNA_\w+) (0x\w+)u$', path.read_text('utf-8'), re.MULTILINE):
        if name != 'CDNA_ABI_VERSION':
            header.constants[name] = int(value, 16)
    return header


def initialisers(path=HEADER):
    """The structs that have an _INIT macro, by its name."""
    names = re.findall(r'^#define (CDNA_\w+)_INIT\b', path.read_text('utf-8'), re.MULTILINE)
    return {f'{name}_INIT': name.lower() for name in names}
