"""The marker: gives eligible rows of source databases their names, each once."""

from des.marker.name_lease import MarkerLease
from des.marker.names import NameMark
from des.marker.worker import FileMarkerWorker, SourceMarker

__all__ = ["FileMarkerWorker", "MarkerLease", "NameMark", "SourceMarker"]
