"""Imports torchvision without torch's compiler, which takes longer than all the rest.

torchvision.ops.roi_align asks `torch._dynamo.utils` for one function, which it calls when a box
pooling of a detector runs; none is built here. Importing that module takes 5 s of CPU time, of 9 s
for torch and torchvision together. So for the time of the import a stand-in answers; after it the
compiler can be imported as ever, and the function that torchvision got asks the real one.
"""

import importlib
import sys
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo"


def import_torchvision() -> None:
    """Import torchvision, unless it or the compiler is imported already."""
    if "torchvision" in sys.modules or _COMPILER in sys.modules:
        return
    package, utils = ModuleType(_COMPILER), ModuleType(f"{_COMPILER}.utils")
    vars(utils)["is_compile_supported"] = _is_compile_supported
    stand_ins = {_COMPILER: package, f"{_COMPILER}.utils": utils}
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("torchvision")
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _is_compile_supported(device_type: str) -> Any:
    return importlib.import_module(f"{_COMPILER}.utils").is_compile_supported(device_type)


import_torchvision()
