"""HLSL through DXC with the flags that wgpu gives it, called through the COM interface of its Linux library.

    python3 dxc.py LIBRARY SHADER_MODEL < list of files

Prints the files that were accepted; what DXC says of the others goes to standard error.
"""

import ctypes
import sys
import uuid


class Guid(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 16)]

    def __init__(self, text):
        super().__init__((ctypes.c_uint8 * 16)(*uuid.UUID(text).bytes_le))


class DxcBuffer(ctypes.Structure):
    _fields_ = [("at", ctypes.c_char_p), ("size", ctypes.c_size_t), ("encoding", ctypes.c_uint32)]


CLSID_DXC_COMPILER = Guid("73e22d93-e6ce-47f3-b5bf-f0664f39c1b0")
IID_COMPILER_3 = Guid("228b4687-5a6a-4730-900c-9702b2203f54")
IID_RESULT = Guid("58346cda-dde7-4497-9461-6f87af5e0659")
UTF_8 = 65001

# Slots of the virtual tables. On Linux IUnknown has a virtual destructor, which takes two more slots behind its three.
RELEASE = 2
COMPILE = 5
GET_STATUS, GET_ERRORS = 5, 7
GET_POINTER, GET_SIZE = 5, 6


def method(thing, slot, result, *arguments):
    table = ctypes.cast(thing, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
    call = ctypes.CFUNCTYPE(result, ctypes.c_void_p, *arguments)(table[slot])
    return lambda *values: call(thing, *values)


def main(library, model):
    dxc = ctypes.CDLL(library)
    compiler = ctypes.c_void_p()
    made = dxc.DxcCreateInstance(ctypes.byref(CLSID_DXC_COMPILER), ctypes.byref(IID_COMPILER_3), ctypes.byref(compiler))
    if made != 0:
        sys.exit(f"DXC gave no compiler: {made & 0xFFFFFFFF:#x}")
    pointer = ctypes.c_void_p
    compile_text = method(compiler, COMPILE, ctypes.c_int32, pointer, pointer, ctypes.c_uint32, pointer, pointer, pointer)
    flags = ["-E", "main_", "-T", f"cs_{model}", "-HV", "2018", "-no-warnings", "-Ges"]
    if model >= "6_2":
        flags.append("-enable-16bit-types")

    def fault(text, entry):
        flags[1] = entry
        wide = (ctypes.c_wchar_p * len(flags))(*flags)
        source = DxcBuffer(text, len(text), UTF_8)
        result = ctypes.c_void_p()
        code = compile_text(
            ctypes.byref(source), wide, len(flags), None, ctypes.byref(IID_RESULT), ctypes.byref(result)
        )
        if code != 0 or not result:
            return f"DXC gave no result: {code & 0xFFFFFFFF:#x}"
        status = ctypes.c_int32()
        method(result, GET_STATUS, ctypes.c_int32, pointer)(ctypes.byref(status))
        message = None
        if status.value != 0:
            errors = ctypes.c_void_p()
            method(result, GET_ERRORS, ctypes.c_int32, pointer)(ctypes.byref(errors))
            size = method(errors, GET_SIZE, ctypes.c_size_t)()
            message = ctypes.string_at(method(errors, GET_POINTER, ctypes.c_void_p)(), size).decode(errors="replace")
            method(errors, RELEASE, ctypes.c_uint32)()
        method(result, RELEASE, ctypes.c_uint32)()
        return message

    for path in map(str.strip, sys.stdin):
        with open(path, "rb") as file:
            text = file.read()
        message = fault(text, "main_" if b"void main_(" in text else "main")
        if message is None:
            print(path, flush=True)
        else:
            print(f"{path}: {message}", file=sys.stderr)


main(*sys.argv[1:])
