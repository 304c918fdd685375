"""The layers of EnCodec as streaming ONNX nodes, each with its own state; what export/encodec.py builds with.

The network's convolutions look both ways, so every layer runs a fixed number of its samples late, as many as it
must look ahead (derived from the layer, never assumed), and carries the samples that it will need again; the LSTMs
carry (h, c). Every layer knows which positions of the whole stream it holds and lays the padding of the whole
(reflected or zero) at its true beginning and end, so any cutting of the stream computes what the whole would.
Values are [audio channels, samples, channels] and every convolution is a matrix product over joined taps: low rates
have too few samples for an operator that vectorises along them, and a sample is moved in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attacca.export.encodec_checkpoint import Array, EncodecCheckpoint
from attacca.export.encodec_plan import Conv, Layer, Lstm, Residual
from attacca.export.graph import GraphBuilder


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A value [audio channels, block * rate, channels] whose first sample is at `frame * rate - delay`."""

    value: str
    channels: int
    rate: int  # samples in a frame
    delay: int  # samples
    length: str  # int64 [1]: samples of the whole stream, as far as its end is known


class Network:
    """Writes layers into a graph and keeps account of rates, delays and states."""

    def __init__(self, name: str, checkpoint: EncodecCheckpoint, *, audio_channels: int, block_frames: int,
                 precision: str) -> None:  # fmt: skip
        self.graph = GraphBuilder(name)
        self.config, self._weights = checkpoint.config, checkpoint.weights
        self._reflect = checkpoint.config.pad_mode == "reflect"
        self.rows, self.block, self._precision = audio_channels, block_frames, precision
        self._states = 0
        self._frame = self.graph.input("frame", np.int64, [1])  # of the block's first input
        self._count = self.graph.input("count", np.int64, [1])  # of real frames in the block
        self._zero = self.graph.constant("zero", np.zeros(1, np.int64))
        self._one = self.graph.constant("one", np.ones(1, np.int64))

    def number(self, *values: int) -> str:
        """An int64 vector."""
        return self.graph.constant(f"number_{'_'.join(map(str, values))}", np.array(values, np.int64))

    def state(self, shape: list[int]) -> tuple[str, Callable[[str], None]]:
        """A carried value [audio channels, *shape]: its name, and what takes the node's output as its successor."""
        index, full = self._states, [self.rows, *shape]
        self._states += 1
        name = self.graph.input(f"state_{index}", np.float32, full)

        def becomes(value: str) -> None:
            self.graph.node("Identity", [value], out=f"new_state_{index}")
            self.graph.output(f"new_state_{index}", np.float32, full)

        return name, becomes

    def run(self, stream: Stream, layers: Sequence[Layer]) -> Stream:
        for layer in layers:
            if isinstance(layer, Lstm):
                stream = self.lstm(stream, layer)
            elif isinstance(layer, Residual):
                stream = self.residual(stream, layer)
            elif layer.transposed:
                stream = self.transposed(stream, layer)
            else:
                stream = self.conv(stream, layer)[0]
        return stream

    # --- convolutions -------------------------------------------------------------------------------------------

    def product(self, x: str, name: str, weight: Array, bias: str) -> str:
        """x [.., in] times weight [in, out], and the bias of the layer `name`."""
        y = self.graph.linear(x, f"{name}.weight", np.ascontiguousarray(weight.T), self._precision)
        return self.graph.node("Add", [y, bias])

    def bias(self, layer: Conv) -> str:
        return self.graph.constant(f"{layer.name}.bias", self._weights[f"{layer.name}.bias"])

    def elu(self, x: str) -> str:
        """max(x, 0) + (exp(min(x, 0)) - 1): every element by itself, whatever its place in the block."""
        graph = self.graph
        nothing = graph.constant("float_0", np.zeros((), np.float32))
        unit = graph.constant("float_1", np.ones((), np.float32))
        below = graph.node("Exp", [graph.node("Min", [x, nothing])])
        return graph.node("Add", [graph.node("Max", [x, nothing]), graph.node("Sub", [below, unit])])

    def part(self, x: str, start: int, end: int) -> str:
        """Samples [start, end)."""
        return self.graph.node("Slice", [x, self.number(start), self.number(end), self._one])

    def held(self, stream: Stream, history: int) -> str:
        """[.., 1 + history + block * rate, .]: a zero, what was carried, the block. The end of it is carried on."""
        graph = self.graph
        past, becomes = self.state([history, stream.channels])
        empty = graph.constant(f"empty_{stream.channels}", np.zeros((self.rows, 1, stream.channels), np.float32))
        joined = graph.node("Concat", [empty, past, stream.value], axis=1)
        past_end = graph.node("Mul", [self._count, self.number(stream.rate)])
        kept = graph.constant(f"kept_{history}", np.arange(1, 1 + history, dtype=np.int64))
        becomes(graph.node("Gather", [joined, graph.node("Add", [past_end, kept])], axis=1))
        return joined

    def placed(self, stream: Stream, history: int, first: int, samples: int, layer: Conv | None) -> str:
        """Where positions first .. first + samples, from the block's first input, lie in `held`; int64 [samples].

        Positions outside the stream lie on the zero, or, for the reflecting `layer`, on their mirror image. What
        stands for outputs outside the stream is arbitrary.
        """
        graph = self.graph
        base = graph.node("Mul", [self._frame, self.number(stream.rate)])
        steps = graph.constant(f"steps_{first}_{samples}", np.arange(first, first + samples, dtype=np.int64))
        at = graph.node("Add", [base, steps])
        if layer is not None:
            mirror = graph.node("Sub", [self.mirrored_length(stream, layer), self._one])
            at = graph.node("Abs", [at])
            beyond = graph.node("Sub", [graph.node("Mul", [mirror, self.number(2)]), at])
            at = graph.node("Min", [at, beyond])
        inside = graph.node(
            "And", [graph.node("Less", [at, stream.length]), graph.node("GreaterOrEqual", [at, self._zero])]
        )
        place = graph.node("Add", [graph.node("Sub", [at, base]), self.number(stream.delay + history + 1)])
        end = self.number(history + self.block * stream.rate)
        place = graph.node("Min", [graph.node("Max", [place, self._zero]), end])
        return graph.node("Where", [inside, place, self._zero])

    def mirrored_length(self, stream: Stream, layer: Conv) -> str:
        """The length about whose end is reflected: a stream not longer than its padding is first made longer."""
        graph = self.graph
        step, pads = self.number(layer.stride), (self.number(layer.pad_left), self.number(layer.pad_right))
        whole = graph.node("Mul", [self.divided(stream.length, layer.stride), step])
        right = graph.node("Add", [graph.node("Sub", [whole, stream.length]), pads[1]])
        most = graph.node("Max", [pads[0], right])
        short = graph.node("LessOrEqual", [stream.length, most])
        return graph.node("Where", [short, graph.node("Add", [most, self._one]), stream.length])

    def divided(self, length: str, stride: int) -> str:
        """The length divided and rounded up."""
        if stride == 1:
            return length
        more = self.graph.node("Add", [length, self.number(stride - 1)])
        return self.graph.node("Div", [more, self.number(stride)])

    def conv(self, stream: Stream, layer: Conv) -> tuple[Stream, str]:
        """The layer's output, and its input as late as the output (of a layer without stride)."""
        graph, stride, span = self.graph, layer.stride, layer.span
        if span == 1:
            return self.pointwise(stream, layer), stream.value
        if stream.rate % stride:
            raise ValueError(f"{layer.name}: stride {stride} does not divide {stream.rate} samples a frame")
        # The last output of a block needs `pad_right` samples after its own.
        delay = -(-(stream.delay + layer.pad_right) // stride)
        first = -delay * stride - layer.pad_left
        # The mirror image of an incomplete last step reaches further back than the kernel does.
        spare = max(0, stride - 1 - (layer.pad_left - layer.pad_right)) if self._reflect else 0
        history = -stream.delay - first + spare
        joined = self.held(stream, history)
        outputs = self.block * stream.rate // stride
        index = self.placed(stream, history, first, (outputs - 1) * stride + span, layer if self._reflect else None)
        x = graph.node("Gather", [joined, index], axis=1)
        late = 1 + history - (delay * stride - stream.delay)
        y = self.convolved(self.elu(x) if layer.elu else x, layer, outputs)
        made = Stream(
            value=y,
            channels=layer.outputs,
            rate=stream.rate // stride,
            delay=delay,
            length=self.divided(stream.length, stride),
        )
        return made, self.part(joined, late, late + self.block * stream.rate)

    def convolved(self, x: str, layer: Conv, outputs: int) -> str:
        """As many outputs of the samples that they need, no more."""
        graph, weight = self.graph, self._weights[f"{layer.name}.weight"]  # [out, in, kernel]
        if layer.outputs == 1:  # each tap's share of every sample first: nothing is copied for every tap
            shares = graph.node("MatMul", [x, graph.widened(f"{layer.name}.weight", weight[0], self._precision)])
            columns = graph.nodes("Split", [shares], layer.kernel, axis=2, num_outputs=layer.kernel)
            y = self.bias(layer)
            for tap, column in enumerate(columns):
                y = graph.node("Add", [y, self.part(column, tap * layer.dilation, tap * layer.dilation + outputs)])
            return y
        if layer.stride == 1:
            taps = [self.part(x, at, at + outputs) for at in range(0, layer.span, layer.dilation)]
        else:  # the kernel is two steps long
            steps = graph.node("Reshape", [x, self.number(self.rows, outputs + 1, layer.stride * layer.inputs)])
            taps = [self.part(steps, 0, outputs), self.part(steps, 1, outputs + 1)]
        flat = weight.transpose(2, 1, 0).reshape(-1, layer.outputs)
        return self.product(graph.node("Concat", taps, axis=2), layer.name, flat, self.bias(layer))

    def pointwise(self, stream: Stream, layer: Conv) -> Stream:
        x = self.elu(stream.value) if layer.elu else stream.value
        y = self.product(x, layer.name, self._weights[f"{layer.name}.weight"][:, :, 0].T, self.bias(layer))
        return replace(stream, value=y, channels=layer.outputs)

    def residual(self, stream: Stream, layer: Residual) -> Stream:
        inner, late = self.conv(stream, layer.first)
        made = self.pointwise(inner, layer.second)
        if layer.shortcut is not None:
            late = self.pointwise(replace(made, value=late, channels=stream.channels), layer.shortcut).value
        return replace(made, value=self.graph.node("Add", [late, made.value]))

    def transposed(self, stream: Stream, layer: Conv) -> Stream:
        """Each input and the one before it make `stride` outputs."""
        graph, stride, inputs = self.graph, layer.stride, self.block * stream.rate
        joined = self.held(stream, 1)
        x = graph.node("Gather", [joined, self.placed(stream, 1, -stream.delay - 1, inputs + 1, None)], axis=1)
        x = self.elu(x) if layer.elu else x
        taps = graph.node("Concat", [self.part(x, 1, inputs + 1), self.part(x, 0, inputs)], axis=2)
        weight = self._weights[f"{layer.name}.weight"]  # [in, out, 2 * stride]
        now, before = (weight[:, :, at : at + stride].transpose(0, 2, 1) for at in (0, stride))
        weight = np.concatenate([now, before]).reshape(2 * layer.inputs, stride * layer.outputs)
        bias = graph.constant(f"{layer.name}.bias", np.tile(self._weights[f"{layer.name}.bias"], stride))
        y = self.product(taps, layer.name, weight, bias)
        return Stream(
            value=graph.node("Reshape", [y, self.number(self.rows, stride * inputs, layer.outputs)]),
            channels=layer.outputs,
            rate=stream.rate * stride,
            delay=stream.delay * stride + layer.pad_left,  # what is trimmed was not made in the first place
            length=graph.node("Mul", [stream.length, self.number(stride)]),
        )

    # --- LSTM ---------------------------------------------------------------------------------------------------

    def lstm(self, stream: Stream, layer: Lstm) -> Stream:
        """Gate by gate: (h, c) stand still before the stream's first frame and after the block's last real one."""
        graph = self.graph
        place = graph.node("Add", [self._frame, self.number(-stream.delay)])
        live = []
        for i in range(self.block):
            begun = graph.node("GreaterOrEqual", [graph.node("Add", [place, self.number(i)]), self._zero])
            live.append(graph.node("And", [begun, graph.node("Greater", [self._count, self.number(i)])]))
        x = graph.node("Transpose", [stream.value], perm=[1, 0, 2])  # [block, rows, size]
        for number in range(layer.layers):
            x = self.lstm_layer(x, layer, number, live)
        y = graph.node("Add", [graph.node("Transpose", [x], perm=[1, 0, 2]), stream.value])
        return Stream(value=y, channels=stream.channels, rate=stream.rate, delay=stream.delay, length=stream.length)

    def lstm_layer(self, x: str, layer: Lstm, number: int, live: list[str]) -> str:
        graph, size = self.graph, layer.size

        def name(part: str) -> str:
            return f"{layer.name}.{part}_l{number}"

        bias = self._weights[name("bias_ih")] + self._weights[name("bias_hh")]
        inputs = graph.linear(x, name("weight_ih"), self._weights[name("weight_ih")], self._precision)
        inputs = graph.node("Add", [inputs, graph.constant(name("bias"), bias)])
        recurrent = graph.widened(name("weight_hh"), self._weights[name("weight_hh")].T, self._precision)
        h_before, h_becomes = self.state([size])
        c_before, c_becomes = self.state([size])
        h, c = (graph.node("Unsqueeze", [before, self._zero]) for before in (h_before, c_before))
        made = []
        for i in range(self.block):
            row = graph.node("Gather", [inputs, self.number(i)], axis=0)  # [1, rows, 4 * size]
            gates = graph.node("Add", [row, graph.node("MatMul", [h, recurrent])])
            parts = graph.nodes("Split", [gates, self.number(*[size] * 4)], 4, axis=2)
            entry, keep, leave = (graph.node("Sigmoid", [parts[j]]) for j in (0, 1, 3))
            kept = graph.node("Mul", [keep, c])
            cell = graph.node("Add", [kept, graph.node("Mul", [entry, graph.node("Tanh", [parts[2]])])])
            hidden = graph.node("Mul", [leave, graph.node("Tanh", [cell])])
            c = graph.node("Where", [live[i], cell, c])
            h = graph.node("Where", [live[i], hidden, h])
            made.append(h)
        h_becomes(graph.node("Squeeze", [h, self._zero]))
        c_becomes(graph.node("Squeeze", [c, self._zero]))
        return graph.node("Concat", made, axis=0)
