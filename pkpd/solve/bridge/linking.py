"""Decorators of compiled functions that are linked, optimised and made machine code only once.

Numba optimises every function that a kernel calls, and makes machine code of it, before the kernel
itself: of functions that nobody but a kernel calls that is thrown away. Here those keep the code
they were lowered to, and the kernel that calls them links all of it, optimises and compiles it
whole. That takes two thirds of the time, and what is inlined better is a little faster.

The classes reach into Numba where it is not documented. So they are used with the versions they
were tried with; with others the decorators are Numba's own, which give the same answers.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import llvmlite.binding as llvm
import numba
from numba import _dynfunc, njit  # pyright: ignore[reportAttributeAccessIssue]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import (
    CompilerBase,
    DefaultPassBuilder,
    _LowerResult,  # pyright: ignore[reportAttributeAccessIssue]
)
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

import pkpd.kept_code  # noqa: F401  (before anything is decorated)

_TRIED = ((0, 65),)

NO_COUNTS = {"_nrt": False}
"""Option of functions in which nothing is allocated: references to arrays are not counted.

Counting those to arrays that threads share makes the threads wait for each other.
"""

# what these passes look for is not in the functions here: closures, ``with``, ``None`` for an
# argument, literals that fix types, expressions of whole arrays
_NOT_NEEDED = (
    "WithLifting",
    "InlineClosureLikes",
    "RewriteSemanticConstants",
    "DeadBranchPrune",
    "RewriteDynamicRaises",
    "MakeFunctionToJitFunction",
    "InlineInlinables",
    "InlineOverloads",
    "FindLiterallyCalls",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "NopythonRewrites",
    "NoPythonSupportedFeatureValidation",
    "AnnotateTypes",
    "DumpParforDiagnostics",
)


class _Part(JITCodeLibrary):
    """Code of a function that kernels call: never optimised or compiled by itself."""

    def _ensure_finalized(self) -> None:
        """Leave it as it was lowered."""

    def _get_module_for_linking(self) -> Any:
        if self._shared_module is None:
            for function in self._final_module.functions:
                if not function.is_declaration and function.linkage == llvm.Linkage.external:
                    function.linkage = "linkonce_odr"
            self._shared_module = self._final_module
        return self._shared_module


class _Whole(JITCodeLibrary):
    """Code of a kernel with that of all it calls, directly or not."""

    def finalize(self) -> None:
        found: list[Any] = []
        for library in self._linking_libraries:
            _gather(library, found)
        # a function that nothing yet linked calls would be left out: callers go first
        self._linking_libraries = found[::-1]
        super().finalize()


def _gather(library: Any, found: list[Any]) -> None:
    """Append a library after those it calls, each once."""
    if library in found:
        return
    if isinstance(library, _Part):
        for called in library._linking_libraries:
            _gather(called, found)
    found.append(library)


class _LowerInto(NativeLowering):
    kind: type[JITCodeLibrary]

    def run_pass(self, state: Any) -> bool:
        state.library = self.kind(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerWhole(_LowerInto):
    _name = "lower_whole"
    kind = _Whole


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerPart(_LowerInto):
    _name = "lower_part"
    kind = _Part

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        super().run_pass(state)
        # the function object only names the code to callers; its address would be machine code
        lowered, library = state["cr"], state.library
        name = lowered.fndesc.qualname.split(".")[-1]
        handle = _dynfunc.make_function(
            lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (library,)
        )
        state.targetctx.insert_user_function(handle, lowered.fndesc, [library])
        state.reload_init.extend(library._reload_init)
        state["cr"] = _LowerResult(lowered.fndesc, lowered.call_helper, handle, lowered.env)
        return True


def _pipeline(lowering: type[_LowerInto]) -> type[CompilerBase]:
    class Compiler(CompilerBase):
        def define_pipelines(self) -> list[Any]:
            passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
            passes.passes = [
                (lowering if one is NativeLowering else one, text)
                for one, text in passes.passes
                if one.__name__ not in _NOT_NEEDED
            ]
            passes.finalize()
            return [passes]

    return Compiler


def _decorators(version: tuple[int, ...]) -> tuple[Any, Any]:
    """Make the decorators of kernels and of what only they call, for a version of Numba."""
    whole = partial(njit, cache=True, nogil=True)
    # what is only called by compiled code needs no way in from Python, which takes long to compile
    part = partial(njit, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    if version[:2] not in _TRIED:
        return whole, part
    return (
        partial(whole, pipeline_class=_pipeline(_LowerWhole)),
        partial(part, pipeline_class=_pipeline(_LowerPart)),
    )


kernel, allocating = _decorators(numba.version_info)
"""Decorators of kernels that Python calls, and of functions that only kernels call."""

uncounted, inner = partial(kernel, **NO_COUNTS), partial(allocating, **NO_COUNTS)
"""The same for functions that make no arrays."""

inlined = partial(inner, forceinline=True)
"""Decorator of short functions that LLVM puts in place of the call."""
