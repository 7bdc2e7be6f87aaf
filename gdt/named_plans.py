"""A published method's plan by its name."""

from gdt.plan import Plan
from gdt.plan_catalog import NAMED_PLANS, tables_of

__all__ = ["NAMED_PLANS", "named_plan"]


def named_plan(name: str) -> Plan:
    """A published plan by name; `gdt.plan_catalog` has their tables.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    return Plan.from_tables(tables_of(name))
