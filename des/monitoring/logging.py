"""Logs: one event with its facts per line, on stderr, for people or for machines."""

import logging
import sys
from typing import Literal, TextIO

import structlog

from des.monitoring.request_id import add_request_id
from des.monitoring.tracing import add_trace_id


def configure_logging(
    *,
    level: Literal["debug", "info", "warning", "error"],
    style: Literal["console", "json"],
    stream: TextIO | None = None,
) -> None:
    """Set up structlog and the standard library's loggers (uvicorn, grpc, asyncio) alike.

    Called once, by an entry point; stdout stays free for what a command answers.
    """
    stream = sys.stderr if stream is None else stream
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        add_request_id,
        add_trace_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer(default=str)]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # What libraries say for their own debugging has requests in it, headers and session tokens included.
    root.setLevel(max(threshold, logging.INFO))
    for own in ("des", "des_server"):
        logging.getLogger(own).setLevel(threshold)
    for noisy in ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic"):
        logging.getLogger(noisy).setLevel(max(threshold, logging.WARNING))
