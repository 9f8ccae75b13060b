"""Looking after a store: what is sound, what is nobody's, and what may go (docs/upkeep.md)."""

from des.upkeep.examine import Depth, Examination, Verdict, examine
from des.upkeep.fsck import Finding, FsckReport, fsck
from des.upkeep.garbage import GarbageCollector, GarbageReport
from des.upkeep.gc_plan import GcLimits, GcPlan, GcRefusedError
from des.upkeep.rebuild_catalog import RebuildReport, rebuild_catalog

__all__ = [
    "Depth",
    "Examination",
    "Finding",
    "FsckReport",
    "GarbageCollector",
    "GarbageReport",
    "GcLimits",
    "GcPlan",
    "GcRefusedError",
    "RebuildReport",
    "Verdict",
    "examine",
    "fsck",
    "rebuild_catalog",
]
