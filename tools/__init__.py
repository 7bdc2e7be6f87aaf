"""The gdt command: the only place where all rooms meet; nothing imports it."""
