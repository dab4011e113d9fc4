"""From Numba's instructions to LLVM's, for functions that hold no Python object: nothing has to be given back.

Numba loads what a variable held before it writes to it and where the variable ends, and there sets it to zero, for
the sake of references that kernels do not count. LLVM throws all of it away again, once it has been written out, read
and optimised.
"""

from typing import Any

from numba.core import cgutils, ir, lowering
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import BaseNativeLowering, NativeLowering

# What notes down where variables end, which nobody asks then.
_ENDS = "ir_legalization"


class _Lower(lowering.Lower):
    """Writes LLVM's instructions for a function without references, and without information for a debugger."""

    def lower_block(self, block: Any) -> None:
        self.pre_block(block)
        for inst in block.body:
            self.loc = inst.loc
            if isinstance(inst, ir.Assign):
                name = inst.target.name
                self.storevar(self.lower_assign(self.typeof(name), inst), name)
            else:
                self.lower_inst(inst)
        self.post_block(block)

    def storevar(self, value: Any, name: str, argidx: int | None = None) -> None:
        if name in self._singly_assigned_vars:
            self._blk_local_varmap[name] = value
        else:
            self.builder.store(value, self.getvar(name))

    def alloca_lltype(self, name: str, lltype: Any, datamodel: Any = None) -> Any:
        return cgutils.alloca_once(self.builder, lltype, name=name)


@register_pass(mutates_CFG=True, analysis_only=False)
class _WithoutReferences(BaseNativeLowering):
    _name = "lowering_without_references"

    @property
    def lowering_class(self) -> Any:
        return _Lower


def without_references(steps: list[Any]) -> list[Any]:
    """The steps of a pipeline of Numba, for a function that counts no references."""
    kept = [step for step in steps if step[0].name() != _ENDS]
    return [(_WithoutReferences, what) if step is NativeLowering else (step, what) for step, what in kept]
