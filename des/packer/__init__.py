"""The packer: seals open files into containers, and settles what a crash left."""

from des.packer.health import HealthChecker
from des.packer.multi_shard_packer import MultiShardPacker
from des.packer.recovery import CrashRecoveryManager

__all__ = ["CrashRecoveryManager", "HealthChecker", "MultiShardPacker"]
