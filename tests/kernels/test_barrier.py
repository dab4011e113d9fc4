"""How a thread waits at a barrier, on machines that are not at hand; that it waits is tested in ``test_threads``."""

import ctypes
import os
from types import SimpleNamespace

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from fastnn.kernels.compiler import cpu
from fastnn.kernels.threading import atomics

from .assembly import ARM, X86, assembly


def wait(triple):
    """A module with the function ``wait``, one turn of spinning."""
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.IntType(1)]), "wait")
    builder = ir.IRBuilder(function.append_basic_block())
    atomics._pause_ir(builder, function.args[0], triple.split("-")[0])
    builder.ret_void()
    return module


@pytest.mark.parametrize(("triple", "hint"), [(X86, "pause"), (ARM, "isb"), (ARM.replace("aarch64", "arm64"), "isb")])
def test_the_cpu_is_told(triple, hint):
    lines = [line.split() for line in assembly(wait(triple), "generic").splitlines()]
    assert [hint] in lines


@ctypes.CFUNCTYPE(ctypes.c_int)
def switch_to_thread():
    """Stands in for Windows' function, which LLVM knows by its name from then on."""
    switches.append(1)
    return 1


switches = []


@pytest.mark.skipif(os.name == "nt", reason="the real function would be replaced in this process")
def test_windows_gives_the_cpu_away(monkeypatch):
    """Linked by name and called only after a long wait."""
    kernel32 = SimpleNamespace(SwitchToThread=switch_to_thread)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel32), raising=False)
    monkeypatch.setattr(atomics, "_YIELD", atomics._name_of_yield("nt"))
    triple = cpu.target()[0]
    machine = llvm.Target.from_triple(triple).create_target_machine(jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(wait(triple))), machine)
    turn = ctypes.CFUNCTYPE(None, ctypes.c_bool)(engine.get_function_address("wait"))
    turn(False)
    assert not switches
    turn(True)
    assert len(switches) == 1
