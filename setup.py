"""The one thing that pyproject.toml cannot say: how the decoder's own kernels (kernels/) are compiled.

Without a compiler the package installs all the same, and onnxruntime plays.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No product and sum fused where it suits the compiler: a row's bits would hang on what stands beside it.
UNIX_FLAGS = ["-std=c++17", "-O3", "-ffp-contract=off", "-fvisibility=hidden", "-g0", "-Wno-psabi"]
UNIX_FLAGS += ["-Wno-maybe-uninitialized"]  # of what gcc 12 makes of its own vector headers
MSVC_FLAGS = ["/std:c++17", "/O2", "/fp:precise"]


def _newest(ext: Any) -> float:
    return max(Path(name).stat().st_mtime for name in (*ext.sources, *ext.depends, __file__))


class BuildKernels(build_ext):
    """build_ext with the flags of the compiler that is there."""

    def build_extension(self, ext: Any) -> None:
        """See setuptools. An editable install takes what an earlier one left, unless a source is newer."""
        built = Path(__file__).parent / "engine" / Path(self.get_ext_filename(ext.name)).name
        if self.editable_mode and built.is_file() and _newest(ext) < built.stat().st_mtime:
            target = Path(self.build_lib) / self.get_ext_filename(ext.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(built, target)
            return
        ext.extra_compile_args = MSVC_FLAGS if self.compiler.compiler_type == "msvc" else UNIX_FLAGS
        super().build_extension(ext)


setup(
    ext_modules=[
        Extension(
            "attacca.engine._native",
            sources=sorted(str(path) for path in Path("kernels").glob("*.cpp")),
            depends=sorted(str(path) for path in Path("kernels").glob("*.[hi]*")),
            language="c++",
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
