"""A checker for Poller in Python: is the queue in a directory worked off?

A check of type "queue" has as its details a directory below --root. It is available while no file there is older than
--max-age seconds. Its results are the files.
"""

import argparse
import hashlib
import json
import os
import signal
import threading
import time
from concurrent import futures

import grpc

import monitoring_pb2 as pb

CHUNK = 1000  # files in a chunk of results; far below the 4 MiB that pollers take


class Queue:
    def __init__(self, root, max_age):
        self.root, self.max_age = os.path.realpath(root), max_age

    def files(self, details):
        """The files in a directory, the oldest first. OSError or ValueError says why there are none to look at."""
        directory = os.path.realpath(os.path.join(self.root, details))
        if not details or os.path.commonpath([self.root, directory]) != self.root:
            raise ValueError(f"details are {details[:100]!r}: name a directory below {self.root}")
        found = []
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_file():
                        found.append((entry.stat().st_mtime, entry.name, entry.stat().st_size))
                except FileNotFoundError:
                    pass  # it has just been worked off
        return sorted(found)

    def get_status(self, request, context):
        """Answers GetStatus: what goes wrong is the check's verdict, not an error of the call."""
        began = time.monotonic_ns()
        available, message = False, {}
        try:
            if request.service_type != "queue":
                raise ValueError(f"unknown check type {request.service_type!r}; this checker knows queue")
            files = self.files(request.details)
            oldest = max(0, time.time() - files[0][0]) if files else 0
            available = oldest <= self.max_age
            message = {"length": len(files), "oldest_seconds": round(oldest, 3)}
        except (OSError, ValueError) as err:
            message = {"error": str(err)[:500]}
        return pb.StatusResponse(
            available=available, message=json.dumps(message).encode(), response_time=time.monotonic_ns() - began,
            service_name=request.service_name, service_type=request.service_type,
            agent_id=request.agent_id, poller_id=request.poller_id,
        )

    def news(self, request, context):
        """What both kinds of results are made of: the files, [] if the poller has them already, and their mark."""
        if request.service_type != "queue":
            context.abort(grpc.StatusCode.NOT_FOUND, f"no results of type {request.service_type!r}")
        try:
            files = self.files(request.details)
        except (OSError, ValueError) as err:
            context.abort(grpc.StatusCode.NOT_FOUND, str(err)[:500])
        sequence = hashlib.sha256(repr(files).encode("utf-8", "surrogateescape")).hexdigest()
        if sequence == request.last_sequence:
            files = []
        return [{"file": name, "bytes": size, "modified": modified} for modified, name, size in files], sequence

    def get_results(self, request, context):
        """Answers GetResults with the files in one message."""
        files, sequence = self.news(request, context)
        return pb.ResultsResponse(
            available=True, data=json.dumps(files).encode(), timestamp=int(time.time()),
            current_sequence=sequence, has_new_data=sequence != request.last_sequence,
        )

    def stream_results(self, request, context):
        """Answers StreamResults with the files in numbered chunks, of which the last one says so."""
        files, sequence = self.news(request, context)
        chunks = [files[i : i + CHUNK] for i in range(0, len(files), CHUNK)] or [[]]
        for i, chunk in enumerate(chunks):
            yield pb.ResultsChunk(
                data=json.dumps(chunk).encode(), timestamp=int(time.time()), current_sequence=sequence,
                chunk_index=i, total_chunks=len(chunks), is_final=i == len(chunks) - 1,
            )


def services(queue):
    """The services by hand, so that no code has to be generated but that of the messages."""
    return (
        grpc.method_handlers_generic_handler("monitoring.AgentService", {
            "GetStatus": grpc.unary_unary_rpc_method_handler(
                queue.get_status, pb.StatusRequest.FromString, pb.StatusResponse.SerializeToString),
            "GetResults": grpc.unary_unary_rpc_method_handler(
                queue.get_results, pb.ResultsRequest.FromString, pb.ResultsResponse.SerializeToString),
            "StreamResults": grpc.unary_stream_rpc_method_handler(
                queue.stream_results, pb.ResultsRequest.FromString, pb.ResultsChunk.SerializeToString),
        }),
        # Field 1, status, is 1, SERVING: for whichever name is asked.
        grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01"),
        }),
    )


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--listen", default="127.0.0.1:50061", help="address; anybody who reaches it may ask")
    flags.add_argument("--root", required=True, help="directory below which queues are")
    flags.add_argument("--max-age", type=float, default=300, help="seconds that a file may wait")
    args = flags.parse_args()
    # Each call has a thread, so that one that hangs leaves the others theirs.
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=64), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers(services(Queue(args.root, args.max_age)))
    port = server.add_insecure_port(args.listen)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    print(f"listening on port {port}", flush=True)
    stop.wait()
    server.stop(grace=5).wait()


if __name__ == "__main__":
    main()
