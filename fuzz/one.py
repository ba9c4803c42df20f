"""One target under atheris: `python -m fuzz.one wire`, with any options of libFuzzer after it.

With the path of a file it runs that file alone: so a crash is repeated.
"""

import importlib
import sys

import atheris

target = sys.argv.pop(1)
with atheris.instrument_imports(include=["rpcproto.core"]):
    module = importlib.import_module(f"fuzz.{target}")
# libFuzzer starts itself anew to merge corpora, by this name.
arguments = [f"{sys.executable} -m fuzz.one {target}", *sys.argv[1:]]
atheris.Setup(arguments, module.test_one_input)
atheris.Fuzz()
