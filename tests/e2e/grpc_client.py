# grpc_client.py HOST:PORT - python3-grpcio against the test service of tests/integration/test_rpc.c.
# Messages are built by hand (field 1, length-delimited), so no generated code is needed.
import sys
import threading

import grpc

channel = grpc.insecure_channel(sys.argv[1])


def raw(data):
    return data


def field(number, data):
    out, size = bytes([number << 3 | 2]), len(data)
    while size > 127:
        out += bytes([size & 127 | 128])
        size >>= 7
    return out + bytes([size]) + data


unary = channel.unary_unary("/openledger.v1.Trainer/SubmitJob", raw, raw)
listing = channel.unary_unary("/openledger.v1.Trainer/ListJobs", raw, raw)
watch = channel.unary_stream("/openledger.v1.Trainer/WatchJob", raw, raw)
missing = channel.unary_unary("/openledger.v1.Trainer/Nothing", raw, raw)

assert unary(field(1, b"abc"), timeout=5) == field(1, b"abc")
big = b"x" * 500000
assert unary(field(1, big), timeout=10) == field(1, big)


def fails(call, code, words=""):
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        assert words in error.details(), error.details()
        return
    raise AssertionError("no error, wanted %s" % code)


fails(lambda: unary(b"", timeout=5), grpc.StatusCode.INVALID_ARGUMENT, "100% of \u00fc")
fails(lambda: unary(b"\xff\xff", timeout=5), grpc.StatusCode.INVALID_ARGUMENT)
fails(lambda: missing(b"", timeout=5), grpc.StatusCode.UNIMPLEMENTED)
fails(lambda: unary(field(1, b"x" * 600000), timeout=5), grpc.StatusCode.RESOURCE_EXHAUSTED)
fails(lambda: listing(b"\x10\xe8\x07", timeout=0.2), grpc.StatusCode.DEADLINE_EXCEEDED)

assert len(list(watch(field(1, b"700"), timeout=20))) == 700
fails(lambda: list(watch(field(1, b"3!"), timeout=5)), grpc.StatusCode.NOT_FOUND, "after 3")
assert list(watch(field(1, b"0"), timeout=5)) == []
stream = watch(field(1, b"100000000"))
next(stream)
stream.cancel()
fails(lambda: list(stream), grpc.StatusCode.CANCELLED)

errors = []


def many():
    try:
        for i in range(100):
            text = b"k%d" % i
            assert unary(field(1, text), timeout=10) == field(1, text)
    except Exception as error:
        errors.append(error)


threads = [threading.Thread(target=many) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
print("all well")
