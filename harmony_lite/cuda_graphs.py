"""Functions of tensors as CUDA graphs: a GPU is told once what to do, and then does it without the processor.

The networks of this field are small: a GPU finishes each kernel before the processor has launched the next one. A graph
launches all of them at once (PyTorch, "CUDA graphs").
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["GraphCache", "on_side_stream", "recorded"]

_Recording = tuple[tuple[Tensor, ...], Callable[[], Tensor]]  # where its inputs lie, and the replay
WARM_UP = 3  # calls before a recording: libraries choose their kernels and take their memory in the first ones


def on_side_stream(function: Callable[[], Any]) -> Any:
    """What a function returns, with its kernels on a stream of their own, as a warm-up before a recording has to be."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        result = function()
    torch.cuda.current_stream().wait_stream(stream)
    return result


def recorded(function: Callable[[], Any], generators: Sequence[torch.Generator] = ()) -> Callable[[], Any]:
    """Record what a warmed-up function does on the GPU; the function itself computes nothing meanwhile.

    Args:
        function: reads and writes tensors that stay where they are; returns tensors.
        generators: on the GPU, from which the function draws; each replay draws anew.

    Returns:
        A replay. Each call does the recorded work again and returns the same tensors, with new values.

    Raises:
        RuntimeError: something that a graph cannot hold, such as a tensor whose value Python reads.
    """
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = function()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


class GraphCache:
    """Functions that run from a CUDA graph on a GPU: one graph for each key and shape, the oldest forgotten.

    Args:
        most: graphs that are kept; each keeps the memory of its tensors.

    >>> double = GraphCache()
    >>> double("times 2", lambda x: 2 * x, torch.ones(2))
    tensor([2., 2.])
    """

    def __init__(self, most: int = 4) -> None:
        self.most = most
        self._graphs: OrderedDict[Hashable, _Recording | None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._graphs)

    def __call__(self, key: Hashable, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        """`function(*inputs)`; by calling it on a CPU, where gradients are wanted, or where nothing can be recorded.

        Args:
            key: whatever else the function's work depends on: settings, and the state of its weights.
            function: tensors to one tensor, without chance.
            inputs: on one device.
        """
        if not self._runs_from_a_graph(inputs[0]):
            return function(*inputs)
        key = key, *((tuple(tensor.shape), tensor.dtype, tensor.device) for tensor in inputs)
        if key not in self._graphs:
            try:
                self._graphs[key] = self._recorded(function, inputs)
            except RuntimeError as error:
                why = str(error).splitlines()[0]
                warnings.warn(f"this runs without a CUDA graph, several times slower: {why}", stacklevel=3)
                self._graphs[key] = None
            while len(self._graphs) > self.most:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        if self._graphs[key] is None:
            return function(*inputs)
        places, replay = self._graphs[key]
        for place, tensor in zip(places, inputs, strict=True):
            place.copy_(tensor)
        return replay().clone()

    @staticmethod
    def _runs_from_a_graph(tensor: Tensor) -> bool:
        return tensor.is_cuda and not torch.is_grad_enabled()

    @staticmethod
    def _recorded(function: Callable[..., Tensor], inputs: Sequence[Tensor]) -> _Recording:
        places = tuple(tensor.clone() for tensor in inputs)
        for _ in range(WARM_UP):
            on_side_stream(lambda: function(*places))
        return places, recorded(lambda: function(*places))
