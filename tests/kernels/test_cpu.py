import math
import signal
from types import SimpleNamespace

import numpy as np
import pytest

from fastnn.kernels import machine
from fastnn.kernels.compiler import cpu


@pytest.mark.parametrize(
    ("triple", "features", "name"),
    [
        ("x86_64-unknown-linux-gnu", "+sse2,+avx,+avx2,+avx512f", "avx512"),
        ("x86_64-unknown-linux-gnu", "+sse2,+avx,+avx2,-avx512f", "avx2"),
        ("x86_64-unknown-linux-gnu", "", "sse2"),
        ("aarch64-unknown-linux-gnu", "+neon", "neon"),
        ("riscv64-unknown-linux-gnu", "", "scalar"),
    ],
)
def test_the_widest_vectors_are_chosen(triple, features, name, monkeypatch):
    monkeypatch.delenv("FASTNN_SIMD", raising=False)
    monkeypatch.setattr(cpu, "target", lambda: (triple, "some", features))
    assert cpu.detect() is cpu.TABLE[name]


@pytest.mark.parametrize(
    ("triple", "features", "names"),
    [
        ("x86_64-unknown-linux-gnu", "+avx2,+avx512f", ["avx512", "avx2", "sse2", "scalar"]),
        ("x86_64-pc-windows-msvc", "+avx2,-avx512f", ["avx2", "sse2", "scalar"]),
        ("arm64-apple-darwin", "+neon", ["neon", "scalar"]),
        ("riscv64-unknown-linux-gnu", "", ["scalar"]),
    ],
)
def test_by_name(triple, features, names, monkeypatch):
    """Any that the CPU has; LLVM would end the process at the instructions of another."""
    monkeypatch.setattr(cpu, "target", lambda: (triple, "some", features))
    for name in [*cpu.TABLE, "mmx"]:
        monkeypatch.setenv("FASTNN_SIMD", name)
        if name in names:
            assert cpu.detect() is cpu.TABLE[name]
        else:
            message = f"FASTNN_SIMD is '{name}', expected one of {', '.join(names)} on this CPU, some"
            with pytest.raises(ValueError, match=f"^{message}$"):
                cpu.detect()


def test_the_tile_fits_the_registers():
    """Accumulators, a row of B and one element of A; AVX-512 and NEON have 32 registers, the others 16."""
    for isa in cpu.TABLE.values():
        registers = 32 if isa.name in ("avx512", "neon") else 16
        for size in (4, 8):
            assert isa.rows(size) * isa.vectors(size) + isa.vectors(size) + 1 <= registers


def test_peak(dtype):
    peak = machine.fma_peak(np.dtype(dtype), seconds=0.001)
    assert math.isfinite(peak)
    assert peak > 0
    assert machine.width(np.dtype("float32")) in (1, 4, 8, 16)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no such signal")
def test_llvm_is_asked_without_interruptions(monkeypatch):
    def interrupt(number, frame):
        raise InterruptedError

    def answer():
        signal.raise_signal(signal.SIGUSR1)
        answered.append(True)
        return "triple", "cpu", "+features"

    answered = []
    codegen = SimpleNamespace(magic_tuple=answer)
    monkeypatch.setattr(cpu, "cpu_target", SimpleNamespace(target_context=SimpleNamespace(codegen=lambda: codegen)))
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(InterruptedError):
            cpu.target()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert answered == [True]


@pytest.mark.parametrize(("text", "size"), [("2048K\n", 2 << 20), ("much", 1_310_720), (None, 1_310_720)])
def test_the_size_of_the_l2_cache(text, size, monkeypatch, tmp_path):
    if text is not None:
        (tmp_path / "size").write_text(text)
    monkeypatch.setattr(cpu, "_L2_SIZE", tmp_path / "size")
    assert cpu.l2_bytes.__wrapped__() == size
