"""How the double says no."""

import grpc
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2


class Refused(Exception):
    """A call that the double answers with an error."""

    def __init__(self, code, reason, message, *, retry_after_s=None, **metadata):
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.metadata = {key: str(value) for key, value in metadata.items()}


async def refuse(context, failed):
    """End a call with a rich error, or with a bare one where there is no reason."""
    code = getattr(grpc.StatusCode, failed.code)
    trailers = [("des-request-id", "server-made-id"), *(context.trailing_metadata() or ())]
    details = []
    if failed.reason:
        details.append(
            error_details_pb2.ErrorInfo(reason=failed.reason, domain="des.storage", metadata=failed.metadata)
        )
    if failed.retry_after_s is not None:
        delay = Duration()
        delay.FromNanoseconds(int(failed.retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    if details:
        status = status_pb2.Status(code=code.value[0], message=str(failed))
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        trailers.append(("grpc-status-details-bin", status.SerializeToString()))
    await context.abort(code, str(failed), tuple(trailers))
