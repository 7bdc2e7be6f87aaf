"""`python -m tools` is the `gdt` command, where no script of that name is on the PATH."""

from tools.cli import main

if __name__ == "__main__":
    main()
