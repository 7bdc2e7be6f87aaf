"""One part of an array job: which sources of a build it takes, chosen by their names."""

import hashlib
import re
from dataclasses import dataclass

from shards.errors import BuildError

_FOLDER = re.compile(r"part-([0-9]{4,})-of-([0-9]{4,})")


@dataclass(frozen=True)
class Portion:
    """Portion `number` of `count`: 1/4, 2/4, 3/4 and 4/4 share all sources among them."""

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise BuildError(
                f"Part {self.number}/{self.count} does not exist; parts are 1/N to N/N, as in "
                "--part 2/8."
            )

    @classmethod
    def parse(cls, text: str) -> "Portion":
        """Read "2/8".

        Raises:
            BuildError: it is written in another way.
        """
        number, _, count = text.partition("/")
        if not (number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
            raise BuildError(f"Part is {text!r}; write it as number/count, as in --part 2/8.")
        return cls(int(number), int(count))

    @classmethod
    def of_folder(cls, name: str) -> "Portion | None":
        """The portion that is built in a folder of this name; None if none is."""
        match = _FOLDER.fullmatch(name)
        return cls(int(match[1]), int(match[2])) if match else None

    @property
    def folder(self) -> str:
        """The folder's name: part-0002-of-0008."""
        return f"part-{self.number:04d}-of-{self.count:04d}"

    def has(self, name: str) -> bool:
        """Whether the source of this name is in it; a pure function, the same on any machine."""
        digest = hashlib.sha256(b"portion\0" + name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1
