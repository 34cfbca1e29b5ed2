#!/usr/bin/env python3
"""Writes the Python code of ``usm.v1`` from ``proto/`` to ``src/usm/v1``; with ``--check`` only tells whether it is stale.

    python3 generate.py            # rewrite
    python3 generate.py --check    # exit code 1 if the committed code is not what the contract gives

Needs the packages of requirements-test.txt, in these very versions: other ones write other code.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.metadata
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROTO = HERE.parent.parent / "proto"
TARGET = HERE / "src"
PACKAGES = ("grpcio-tools", "mypy-protobuf")


def wrong_versions() -> list[str]:
    """What is installed in another version than requirements-test.txt pins."""
    lines = (HERE / "requirements-test.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    wrong = []
    for package in PACKAGES:
        try:
            found = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        if found != pins[package]:
            wrong.append(f"{package} {pins[package]} is needed, {found} is installed")
    return wrong


def plugin(name: str) -> str:
    """The path of a protoc plugin: beside this Python, else on PATH."""
    beside = shutil.which(name, path=sysconfig.get_path("scripts"))
    found = beside or shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: pip install -r {HERE / 'requirements-test.txt'}")
    return f"--plugin={name}={found}"


def generate(target: Path) -> None:
    import grpc_tools
    from grpc_tools import protoc

    bundled = Path(grpc_tools.__file__).parent / "_proto"
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.glob("usm/v1/*.proto"))
    arguments = ["protoc", f"-I{PROTO}", f"-I{bundled}", plugin("protoc-gen-mypy"), plugin("protoc-gen-mypy_grpc")]
    arguments += [f"--python_out={target}", f"--grpc_python_out={target}"]
    arguments += [f"--mypy_out=quiet:{target}", f"--mypy_grpc_out=quiet:{target}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    package = target / "usm" / "v1"
    # Files without a service get an empty service module, which nobody imports.
    for path in package.glob("*_pb2_grpc.py*"):
        if not path.name.startswith(tuple(p.stem for p in PROTO.glob("usm/v1/*_service.proto"))):
            path.unlink()
    for folder, text in ((package.parent, '"""Messages of the Unified Session Manager."""\n'), (package, GENERATED)):
        (folder / "__init__.py").write_text(text)
        (folder / "py.typed").write_text("")


GENERATED = '"""Messages and stubs of the package ``usm.v1``, written by generate.py."""\n'


def differences(ours: Path, theirs: Path) -> list[str]:
    """The files that differ between two folders, or are in one only."""
    names = {
        str(path.relative_to(folder))
        for folder in (ours, theirs)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    return sorted(
        name
        for name in names
        if not (ours / name).is_file()
        or not (theirs / name).is_file()
        or not filecmp.cmp(ours / name, theirs / name, shallow=False)
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, tell whether the code is stale")
    check = parser.parse_args().check
    if wrong := wrong_versions():
        print("\n".join(wrong), file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        stale = differences(fresh / "usm", TARGET / "usm")
        if check:
            for name in stale:
                print(f"stale: src/usm/{name}")
            return 1 if stale else 0
        if stale:
            shutil.rmtree(TARGET / "usm", ignore_errors=True)
            shutil.copytree(fresh / "usm", TARGET / "usm")
        print(f"{len(stale)} files changed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
