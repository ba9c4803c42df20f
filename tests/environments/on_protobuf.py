"""A pytest plugin: the tests run only if every process has the protobuf that is wanted, and the
installed rpcproto; loaded by `test_environments.py`.
"""

import sys
from pathlib import Path

import google.protobuf
import pytest
from google.protobuf.internal import api_implementation

import rpcproto


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--protobuf", default="", help="version and backend: '5.29.5 python'")


def pytest_configure(config: pytest.Config) -> None:
    wanted = config.getoption("--protobuf")
    found = f"{google.protobuf.__version__} {api_implementation.Type()}"
    if found != wanted:
        raise pytest.UsageError(f"protobuf is {found}, not {wanted}")
    where = Path(rpcproto.__file__)
    if not where.is_relative_to(sys.prefix):
        raise pytest.UsageError(f"rpcproto is {where}, not the installed one")
