"""How LLVM gets what Numba has written: code that is linked and optimised only once, as a whole."""

from typing import Any, ClassVar

import llvmlite.binding as llvm
from numba.core.codegen import JITCodeLibrary

from ...loading import stop_if_unwanted


class Library(JITCodeLibrary):
    """Code that is optimised once and as a whole.

    Numba would go through each function by itself before that, and then twice through all of them, so that it finds
    the references it need not count: kernels count none.
    """

    passes: ClassVar[dict[str, Any]] = {}  # what LLVM is told of them

    def finalize(self) -> None:
        """Link all that is called, however far down, each function once, and optimise it."""
        libraries = dict.fromkeys(self._linking_libraries)
        waiting = list(libraries)
        while waiting:
            library = waiting.pop()
            if isinstance(library, InlineLibrary):
                waiting += [called for called in library._linking_libraries if called not in libraries]
                libraries |= dict.fromkeys(library._linking_libraries)
        self._linking_libraries = list(libraries)
        super().finalize()

    def _optimize_functions(self, ll_module: Any) -> None:
        stop_if_unwanted()
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        passes, builder = self._codegen._module_pass_manager(**self.passes)
        passes.run(self._final_module, builder)

    def _finalize_final_module(self) -> None:
        """Have what it calls for itself.

        Machine code from files of several processes comes together in one, where the names of functions are unique no
        longer: of two of one name, as two users' may have, the linker would give both callers the first.
        """
        for function in self._final_module.functions:
            if function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._finalize_final_module()


class FinishedLibrary(Library):
    """Code that calls functions which are written as the CPU should get them, and come to it when it is optimised."""

    def __init__(self, codegen: Any, name: str) -> None:
        super().__init__(codegen, name)
        self.finished = codegen._create_empty_module(f"{name} finished")

    def _optimize_final_module(self) -> None:
        super()._optimize_final_module()
        names = [function.name for function in self.finished.functions if not function.is_declaration]
        self._final_module.link_in(llvm.parse_assembly(str(self.finished)))
        for name in names:
            self._final_module.get_function(name).linkage = "internal"


class LightLibrary(Library):
    """Code whose loops are elsewhere, in functions behind addresses: LLVM spends less time on it."""

    passes: ClassVar[dict[str, Any]] = {"opt": 2, "loop_vectorize": False}


def finished_module(context: Any) -> Any:
    """The module for finished functions, all external, of the ``Shared`` that is being compiled."""
    return context.active_code_library.finished


class PartLibrary(Library):
    """Code that is only linked into its callers: they optimise it, and it becomes machine code nowhere else."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Where its machine code would be."""
        return 0

    @property
    def codegen(self) -> Any:
        """What Numba asks to set the environment of Python objects at an address, which there is none of."""
        return self

    def set_env(self, env_name: str, env: Any) -> None:
        """Nothing, as there is nowhere to."""


class InlineLibrary(PartLibrary):
    """A single function, to which what it calls is not linked, or all of it would be copied into every caller's."""

    def finalize(self) -> None:
        """Have it ready for callers, of which only those that become machine code link it."""
        for function in self._final_module.functions:
            if not function.is_declaration:
                function.linkage = "linkonce_odr"
        self._shared_module, self._finalized = self._final_module, True
