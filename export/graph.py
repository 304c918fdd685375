"""A small ONNX graph builder: numpy in, ModelProto out, no tracing; what export/decoder.py writes with.

Sits between trained weights and the bundle. A graph written node by node needs no torch, keeps contrib operators
that no tracer emits (GroupQueryAttention, MatMulNBits), and is the same bytes for the same weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 21
IR_VERSION = 10
MICROSOFT = "com.microsoft"
PRECISIONS = ("fp32", "fp16", "int8", "int4")
_BITS = {"int8": 8, "int4": 4}
_BLOCKS = (256, 128, 64, 32, 16)
BLOCK = 128


class GraphBuilder:
    """Collects inputs, constants and nodes; every method returns the names of what it added."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Declare a graph input; string dimensions are dynamic."""
        self._inputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), list(shape)))
        return name

    def output(self, name: str, dtype: npt.DTypeLike, shape: Sequence[int | str]) -> str:
        """Declare as graph output a value that some node already produces under this name."""
        self._outputs.append(helper.make_tensor_value_info(name, _onnx_type(dtype), list(shape)))
        return name

    def constant(self, name: str, array: npt.NDArray[Any]) -> str:
        """Add an initializer; a name that is there already is returned as it is."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def node(
        self, op: str, inputs: Sequence[str], *, domain: str = "", out: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one output, called `out` if given."""
        return self.nodes(op, inputs, 1 if out is None else [out], domain=domain, **attributes)[0]

    def nodes(
        self, op: str, inputs: Sequence[str], outputs: int | Sequence[str], *, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node with several outputs, given by number or by names (an empty name leaves one unused)."""
        label = f"{op}_{len(self._nodes)}"
        names = [f"{label}.{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self._nodes.append(helper.make_node(op, list(inputs), names, name=label, domain=domain, **attributes))
        return names

    def widened(self, name: str, array: npt.NDArray[np.float32], precision: str) -> str:
        """A float32 value stored as fp16 unless `precision` is fp32; folded when the session is made."""
        if precision == "fp32":
            return self.constant(name, array.astype(np.float32))
        return self.node("Cast", [self.constant(name, array.astype(np.float16))], to=TensorProto.FLOAT)

    def linear(
        self, x: str, name: str, weight: npt.NDArray[np.float32], precision: str, *, block: int = BLOCK
    ) -> str:
        """x [..., in] times the transpose of weight [out, in], stored in one of PRECISIONS.

        int8 and int4 are symmetric and blockwise (MatMulNBits, accuracy level 4: activations are quantized per row
        and block). Row-wise on purpose: with a per-tensor activation scale the rows of one call would see each
        other, and prefill in pieces would differ from prefill in one. `block` is the most that share a scale.
        """
        if precision not in PRECISIONS:
            raise ValueError(f"precision {precision!r} is not one of {', '.join(PRECISIONS)}")
        if precision not in _BITS:
            return self.node("MatMul", [x, self.widened(name, weight.T, precision)])
        bits = _BITS[precision]
        block = block_size(weight.shape[1], block)
        packed, scales = quantize_blockwise(weight, bits=bits, block=block)
        constants = [self.constant(f"{name}.q{bits}", packed), self.constant(f"{name}.scale", scales)]
        shape = {"N": weight.shape[0], "K": weight.shape[1]}
        return self.node(
            "MatMulNBits", [x, *constants], domain=MICROSOFT, bits=bits, block_size=block, accuracy_level=4, **shape
        )

    def linear_by_rows(self, x: str, name: str, weight: npt.NDArray[np.float32]) -> str:
        """As `linear` in int8, but quick where a call has many rows: a scale for each row of x and for each output.

        By 14 rows these integer products take 0.6 of MatMulNBits' time, by two 1.2. A row's scale is its largest
        magnitude over 127, so rows do not see each other, and sums are exact in any order. A row of zeros becomes
        0 / 0, whatever code that rounds to, and zeros again by its scale.
        """
        codes, scales = quantize_by_outputs(weight)
        zero = self.constant("row_zero", np.array(128, np.uint8))
        unit = self.constant("row_unit", np.array(1.0 / 127.0, np.float32))
        last = self.constant("axis_last", np.array([-1], np.int64))
        largest = self.node("ReduceMax", [self.node("Abs", [x]), last], keepdims=1)
        rounded = self.node("QuantizeLinear", [self.node("Div", [x, largest]), unit, zero])
        stored = [self.constant(f"{name}.q7", codes), unit, self.constant(f"{name}.step", scales), zero]
        product = self.node("MatMulIntegerToFloat", [rounded, *stored], domain=MICROSOFT)
        return self.node("Mul", [product, largest])

    def model(self, metadata: dict[str, str] | None = None, *, opset: int = OPSET) -> onnx.ModelProto:
        """The finished model; contrib operators are not shape-checked here, onnxruntime does that on loading."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, initializer=list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="attacca")
        model.ir_version = IR_VERSION if opset == OPSET else helper.find_min_ir_version_for(opsets, True)
        helper.set_model_props(model, metadata or {})
        return model


def block_size(inputs: int, most: int = BLOCK) -> int:
    """Largest block up to `most` that divides the row length, else the smallest (the last one is padded)."""
    return next((b for b in _BLOCKS if b <= most and inputs % b == 0), _BLOCKS[-1])


def quantize_blockwise(
    weight: npt.NDArray[np.float32], *, bits: int, block: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """weight [out, in] -> MatMulNBits' B uint8 [out, blocks, block * bits / 8] and scales float32 [out * blocks].

    The value of largest magnitude in a block maps to -2**(bits-1), the one code without a positive twin.
    """
    rows, columns = weight.shape
    blocks = -(-columns // block)
    padded = np.zeros((rows, blocks * block), dtype=np.float32)
    padded[:, :columns] = weight
    grouped = padded.reshape(rows, blocks, block)
    zero = 1 << (bits - 1)
    largest = np.take_along_axis(grouped, np.abs(grouped).argmax(axis=2)[..., None], axis=2)[..., 0]
    scales = (-largest / zero).astype(np.float32)
    inverse = np.divide(1.0, scales, out=np.zeros_like(scales), where=scales != 0)
    codes = np.clip(np.rint(grouped * inverse[..., None]) + zero, 0, 2 * zero - 1).astype(np.uint8)
    if bits == 4:  # two to a byte, the earlier in the low half
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return codes, scales.reshape(-1)


def quantize_by_outputs(weight: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """weight [out, in] -> codes int8 [in, out] in -64..64 and scales float32 [out].

    Of 7 bits, because processors without VNNI add two products in 16 bits: 2 * 255 * 64 fits. What the codes stand
    for gives the same codes and scales again.
    """
    scales = (np.abs(weight).max(axis=1) / 64.0).astype(np.float32)
    steps = np.where(scales > 0, scales, np.float32(1.0))[:, None]
    return np.ascontiguousarray(np.rint(weight / steps).astype(np.int8).T), scales


def _onnx_type(dtype: npt.DTypeLike) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
