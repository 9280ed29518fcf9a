# cdna.h for ctypes: structs, callbacks and functions with their types, made from what c_header reads.
import ctypes

import c_header

SCALARS = {'void': None, 'char': ctypes.c_char, 'float': ctypes.c_float, 'double': ctypes.c_double,
           'size_t': ctypes.c_size_t, 'int': ctypes.c_int,
           **{f'{sign}int{bits}_t': getattr(ctypes, f'c_{sign}int{bits}') for sign in ('', 'u') for bits in (8, 16, 32, 64)}}


class Error(Exception):
    """A call that returned a code; `fields` are those of its cdna_error."""

    def __init__(self, name, fields):
        super().__init__(f'{name}: {fields}')
        self.code, self.fields = fields['code'], fields


class Library:
    """The functions as methods; `structs` and `constants` by name."""

    def __init__(self, path):
        self.header = c_header.parse()
        self.constants = self.header.constants
        self.structs = {name: type(name, (ctypes.Structure,), {}) for name in self.header.structs}
        for name, fields in self.header.structs.items():
            if fields is not None:
                self.structs[name]._fields_ = [(field.name, self.type_of(field)) for field in fields]
        self.loaded = ctypes.CDLL(path)
        for name, function in self.header.functions.items():
            entry = getattr(self.loaded, name)
            entry.restype = self.named(function.returns)
            entry.argtypes = [self.type_of(parameter) for parameter in function.parameters]
            setattr(self, name, entry)

    def type_of(self, variable):
        if variable.callback:
            return self.callback(variable.callback)
        kind = self.named(variable.type)
        return kind * variable.count if variable.count else kind

    def callback(self, function):
        return ctypes.CFUNCTYPE(self.named(function.returns), *(self.type_of(each) for each in function.parameters))

    def named(self, name):
        """The type of 'const char*', 'cdna_reader**', 'uint64_t'."""
        name = name.replace('const ', '').replace(' const', '')
        if name.endswith('*'):
            target = name[:-1]
            if target == 'char':
                return ctypes.c_char_p
            return ctypes.c_void_p if target == 'void' else ctypes.POINTER(self.named(target))
        if name in self.header.callbacks:
            return self.callback(self.header.callbacks[name])
        return SCALARS[self.header.aliases[name]] if name in self.header.aliases else \
            SCALARS[name] if name in SCALARS else self.structs[name]

    def new(self, struct, /, **fields):
        """A struct with its struct_size, if it has one."""
        made = self.structs[struct](**fields)
        if self.header.structs[struct][0].name == 'struct_size':
            made.struct_size = ctypes.sizeof(made)
        return made

    def call(self, name, *arguments):
        """Calls a function that takes an error last. Raises Error unless it returns CDNA_OK."""
        error = self.structs['cdna_error']()
        code = getattr(self, name)(*arguments, ctypes.byref(error))
        if code != self.constants['CDNA_OK']:
            raise Error(name, {field.name: getattr(error, field.name) for field in self.header.structs['cdna_error']})
