"""torchvision without torch's compiler at first, and with it when it is asked for."""

import subprocess
import sys
from types import ModuleType

import pytest

from models._torchvision import _is_compile_supported

CODE = """
import sys
import tools.runs.run, tools.search.query_encoder, torch, torchvision
heavy = ("torch._dynamo", "sympy", "lightning", "sklearn", "faiss")
found = [name for name in sys.modules if name.partition(".")[0] in heavy or "torch._dyn" in name]
assert found == [], found
maps, box = torch.rand(1, 1, 8, 8), torch.tensor([[0, 0.0, 0.0, 4.0, 4.0]])
assert torchvision.ops.roi_align(maps, box, 2).shape == (1, 1, 2, 2)
"""


def test_what_builds_encoders_imports_no_compiler_and_no_trainer() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_compiler_itself_answers_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    utils = ModuleType("torch._dynamo.utils")
    vars(utils)["is_compile_supported"] = lambda device_type: device_type == "cuda"
    monkeypatch.setitem(sys.modules, "torch._dynamo", ModuleType("torch._dynamo"))
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", utils)
    assert [_is_compile_supported(name) for name in ("cuda", "cpu")] == [True, False]
