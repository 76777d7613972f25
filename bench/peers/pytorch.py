"""PyTorch, eager and compiled: a minimal loop over tensors in memory, no DataLoader."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.peers.base import Peer, require_plain_sgd, standardised
from bench.workload import Parameters

# Imported by name, so that type checks give the same result whether the peers are installed or not.
torch: Any = import_module("torch")
functional: Any = import_module("torch.nn.functional")

# Measured on the way here, samples/s at 784-64-10, batch 32, one thread: `torch.autograd.grad` with one
# fused update over all parameters 124 k, the same with an update per parameter 108 k, `torch.optim.SGD`
# with foreach 70 k, fused 74 k.


class PyTorch(Peer):
    """`F.linear`, `F.cross_entropy`, autograd and one in-place update: the fastest eager loop found."""

    compiled = False

    def setup(self) -> None:
        """Put the data into tensors; compile the step if asked to."""
        require_plain_sgd(self.workload, "PyTorch")
        torch.set_num_threads(self.threads)
        torch.set_flush_denormal(True)
        self.parts = {name: (torch.from_numpy(X), torch.from_numpy(y)) for name, (X, y) in standardised(self).items()}
        self.loss_of_batch: Any = _batch_loss
        if self.compiled:
            self.loss_of_batch = torch.compile(_batch_loss)
            self.reset()
            start = time.perf_counter()
            for _ in range(2):  # the second call shows whether the first one's code is kept
                self.train_epoch(self.prepare(np.arange(self.workload.batch_size)), np.zeros(1))
            self.compile_seconds = time.perf_counter() - start

    def set_parameters(self, parameters: Parameters) -> None:
        """Copy weights, stored (fan_out, fan_in) as `torch.nn.Linear` does."""
        self.tensors = [
            torch.from_numpy(np.array(array, order="C")).requires_grad_() for W, b in parameters for array in (W.T, b)
        ]

    def parameters(self) -> Parameters:
        """Return copies of the weights."""
        arrays = [tensor.detach().numpy().copy() for tensor in self.tensors]
        return [(W.T, b) for W, b in zip(arrays[::2], arrays[1::2], strict=True)]

    def prepare(self, order: NDArray[np.int64]) -> list[tuple[Any, Any]]:
        """Return the epoch's batches, copied into order outside the clock."""
        X, y = self.parts["train"]
        index, size = torch.from_numpy(order), self.workload.batch_size
        return list(zip(X[index].split(size), y[index].split(size), strict=True))

    def train_epoch(self, prepared: list[tuple[Any, Any]], rates: NDArray[Any]) -> None:
        """Run the batches of one epoch."""
        tensors = self.tensors
        for (x, y), rate in zip(prepared, rates.tolist(), strict=True):
            gradients = torch.autograd.grad(self.loss_of_batch(tensors, x, y), tensors)
            with torch.no_grad():
                torch._foreach_add_(tensors, gradients, alpha=-rate)

    def loss_and_accuracy(self, part: str) -> tuple[float, float]:
        """Evaluate the whole part at once."""
        X, y = self.parts[part]
        with torch.inference_mode():
            logits = _logits(self.tensors, X)
            loss = functional.cross_entropy(logits, y)
            right = (logits.argmax(dim=1) == y).sum()
        return float(loss), float(right) / len(y)


class PyTorchCompiled(PyTorch):
    """The same loop with forward and backward pass through `torch.compile`."""

    compiled = True


def _logits(tensors: list[Any], x: Any) -> Any:
    for i in range(0, len(tensors) - 2, 2):
        x = torch.relu(functional.linear(x, tensors[i], tensors[i + 1]))
    return functional.linear(x, tensors[-2], tensors[-1])


def _batch_loss(tensors: list[Any], x: Any, y: Any) -> Any:
    return functional.cross_entropy(_logits(tensors, x), y)
