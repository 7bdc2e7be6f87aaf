"""Zip files that hold no more than they are long: those of torch and NumPy, which pack nothing."""

import zipfile
from pathlib import Path


def refuse_packed(path: Path) -> None:
    """Refuse a zip file whose members are packed, or share bytes: either may be a bomb.

    Raises:
        ValueError: it has some, and which; zipfile.BadZipFile, OSError: it cannot be read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise ValueError(f"its member {packed[0]} is compressed, which its writer never does")
    held, total = sum(member.file_size for member in members), path.stat().st_size
    if held > total:
        raise ValueError(f"its members have {held} bytes, and the file has {total}")
