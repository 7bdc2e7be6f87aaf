"""What the site's builder does to the pages, so that they read as well in the repository.

The first page is the README. A link from a page to a file outside docs/ becomes the file's name.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

_README = "index.md"
_LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+)([^)#]+)(?:#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add the README as the first page."""
    readme = Path(config.config_file_path).parent / "README.md"
    text = readme.read_text(encoding="utf-8").replace("](docs/", "](")
    text = text.replace("](CONTRIBUTING.md)", "](contributing.md)")
    contributing = readme.with_name("CONTRIBUTING.md").read_text(encoding="utf-8")
    pages = {_README: text, "contributing.md": contributing.replace("](docs/", "](")}
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show links to code as names: the site has the reference, not the files."""
    depth = page.file.src_uri.count("/")
    return _LINK.sub(
        lambda match: f"`{match.group(3)}`" if match.group(2).count("../") > depth else match[0],
        markdown,
    )
