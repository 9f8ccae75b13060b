"""What a running node tells its operators: logs and metrics."""

from des.monitoring.logging import configure_logging
from des.monitoring.metrics import NodeMetrics, NodeReading

__all__ = ["NodeMetrics", "NodeReading", "configure_logging"]
