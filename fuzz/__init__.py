"""Fuzz targets: programs that must not fail, whatever bytes they are given.

* `wire`: bytes into the wire;
* `program`: bytes as a program of inputs to an engine, which must keep the laws;
* `streams`: bytes as bodies that come in piece by piece, against a reader that is easy to see
  through, plain zlib and plain UTF-8;
* `sealing`: bytes as packets that are encrypted, against a plain look at each;
* `differential`: what the wire builds and reads by shorter ways, against protobuf's own.

Each is a module with a function `test_one_input(data)`, plain Python, so the tests run it as well,
over its corpus in `corpus/`. `make fuzz SECONDS=60` runs them all under atheris.
"""

TARGETS = {"wire": 2_000, "program": 400, "streams": 200, "sealing": 200, "differential": 600}
"""The targets, each with the most bytes of an input that are worth trying."""
