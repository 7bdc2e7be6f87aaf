"""Write the parts of the documentation that follow from the code: `python docs/generate.py`.

Between the lines `<!-- begin NAME -->` and `<!-- end NAME -->` of a page stands what a function of
`PARTS` makes of the code, and `pictures` are drawn; a test keeps each of them current.
"""

import ast
import re
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tools.runs.config_keys import Key

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("gdt", "shards", "pipelines", "models", "tools")


def first_line(path: Path) -> str:
    """The first line of a module's docstring, or of a script's comment: what the file is."""
    text = path.read_text()
    if path.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")
    comment = re.search(r"^# (.+)$", text, re.MULTILINE)
    return comment.group(1).rstrip(".") if comment else ""


def file_tree() -> str:
    """Every tracked file of the packages with its first line, folder by folder, as a code block."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *PACKAGES]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in listing.splitlines() if (ROOT / name).exists()]
    lines = []
    for package in PACKAGES:
        lines += _folder(Path(package), [f for f in files if f.parts[0] == package])
    return "\n".join(["```", *lines, "```"])


def _folder(folder: Path, files: list[Path]) -> list[str]:
    indent = "  " * (len(folder.parts) - 1)
    about = folder / "__init__.py"
    lines = [f"{indent + folder.name + '/':<26}{first_line(ROOT / about)}"]
    lines += [
        f"{indent + '  ' + path.name:<26}{first_line(ROOT / path)}"
        for path in sorted(p for p in files if p.parent == folder)
        if path.suffix in {".py", ".sh"} and path.name != "__init__.py"
    ]
    depth = len(folder.parts)
    rooms = {p.parts[depth] for p in files if p.parent != folder}
    for room in sorted(rooms):
        inside = [p for p in files if p.parts[: depth + 1] == (*folder.parts, room)]
        if any(p.suffix == ".py" for p in inside):
            lines += _folder(folder / room, inside)
    return lines


def config_tables() -> str:
    """Every table and key of a config, as Markdown tables, from the option classes' docstrings."""
    from tools.runs.config import Config
    from tools.runs.config_keys import config_keys

    keys = config_keys(Config)
    tables = [key for key in keys if key.kind == "table"]
    lines = _key_table([key for key in keys if key.kind != "table" and "." not in key.dotted], "")
    for table in tables:
        inside = [
            key
            for key in keys
            if key.dotted.rpartition(".")[0] == table.dotted and key.where == table.where
        ]
        form = f" with `{table.where}`" if table.where else ""
        lines += ["", f"## `[{table.dotted}]`{form}", "", table.text, ""]
        lines += _key_table([key for key in inside if key.kind != "table"], f"{table.dotted}.")
    return "\n".join(["", *lines, ""])


def _key_table(keys: "list[Key]", prefix: str) -> list[str]:
    if not keys:
        return []
    lines = ["| key | takes | default | |", "| --- | --- | --- | --- |"]
    for key in keys:
        default = "required" if key.required else f"`{key.default}`" if key.default else ""
        cells = (f"`{key.dotted.removeprefix(prefix)}`", key.kind, default, key.text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def config_keys_list() -> str:
    """Every key of a config, one a line: what a typo is compared with before torch is imported."""
    from tools.runs.config import Config
    from tools.runs.config_keys import config_keys

    return "\n".join(dict.fromkeys(k.dotted for k in config_keys(Config) if k.kind != "table"))


def factor_table() -> str:
    """Every factor with where its draws are made and the keys of its own, as a Markdown table."""
    from gdt.factor import Factor
    from gdt.factors import FACTORS

    shared = {field.name for field in fields(Factor)}
    lines = ["| factor | drawn at | what is drawn | its own keys |", "| --- | --- | --- | --- |"]
    for name, factor in FACTORS.items():
        own = ", ".join(f"`{f.name}`" for f in fields(factor) if f.name not in shared)
        about = (factor.__doc__ or "").partition("\n")[0]
        lines.append(f"| `{name}` | {factor.stage} | {about} | {own} |")
    return "\n".join(lines)


def modality_table() -> str:
    """Every modality with what a value of it is, as a Markdown table."""
    from gdt.modalities import MODALITIES

    lines = ["| modality | a batch of values |", "| --- | --- |"]
    return "\n".join([*lines, *(f"| `{name}` | {kind} |" for name, kind in MODALITIES.items())])


def plan_table() -> str:
    """Every published plan as (T, c, w), with the picture of its matrices."""
    from gdt.named_plans import NAMED_PLANS, named_plan

    lines = [
        "| plan | T: factor × draws | c: distinctive to | w: pairs | c and w of two samples |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in NAMED_PLANS:
        factors = named_plan(name).factors
        drawn = [f for f in factors if f.name != "sample"]
        cells = (
            " · ".join(f"{f.name} × {f.draws}" for f in drawn),
            ", ".join(f.name for f in factors if f.relation == "distinctive"),
            ", ".join(f"{f.pairs} {f.name}" for f in drawn if f.pairs != "all") or "all",
            f"![c and w](images/plans/{name}.svg)",
        )
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def plan_picture(name: str) -> str:
    """The c and w of a plan's batch of two samples side by side, as SVG: dark where above 0."""
    import torch

    from gdt.named_plans import named_plan

    plan, cell = named_plan(name), 6
    codes = plan.codes(torch.arange(2))
    side = len(codes) * cell
    shapes = []
    for matrix, start, ink in (
        (plan.contrast(codes, codes), 0, "#2a6fb0"),
        (plan.weight(codes, codes), side + 10, "#c8553d"),
    ):
        dark = "".join(
            f"M{start + column * cell} {row * cell}h{cell}v{cell}h-{cell}z"
            for row, column in matrix.nonzero().tolist()
        )
        shapes.append(f'<path fill="#e8eaee" d="M{start} 0h{side}v{side}h-{side}z"/>')
        shapes.append(f'<path fill="{ink}" d="{dark}"/>')
    size = f'width="{2 * side + 10}" height="{side}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(shapes)}</svg>\n'


def pictures() -> dict[str, str]:
    """Every picture that follows from the code: file → SVG."""
    from gdt.named_plans import NAMED_PLANS

    return {f"docs/images/plans/{name}.svg": plan_picture(name) for name in NAMED_PLANS}


#: (page, name of the part) → its text
PARTS: Final[dict[tuple[str, str], Callable[[], str]]] = {
    ("docs/architecture.md", "file tree"): file_tree,
    ("docs/config.md", "keys"): config_tables,
    ("docs/gdt.md", "factors"): factor_table,
    ("docs/gdt.md", "modalities"): modality_table,
    ("docs/gdt.md", "plans"): plan_table,
    ("tools/runs/config_keys.txt", "config keys"): config_keys_list,
}


def renewed(page: str, name: str, text: str) -> str:
    """The page's text with the part `name` replaced by `text`.

    Raises:
        ValueError: the page has no such part.
    """
    marks = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise ValueError(f"the page has no lines {marks[0]} and {marks[1]}")
    return f"{before}{marks[0]}\n{text}\n{marks[1]}{after}"


def main() -> None:
    """Renew every part and picture."""
    for (page, name), make in PARTS.items():
        path = ROOT / page
        path.write_text(renewed(path.read_text(), name, make()))
    for name, picture in pictures().items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_text(picture)


if __name__ == "__main__":
    main()
